//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use installer::cluster::Place;
use installer::record::STATE_DIRECTORY;

/// A cloud on your machines: one command brings it up.
#[derive(Parser)]
#[command(name = "atoll", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args)]
pub struct Common {
    /// The cluster's name, a DNS label
    #[arg(long, global = true, default_value = "atoll", env = "ATOLL_NAME")]
    pub name: String,
    /// Where clusters are kept
    #[arg(long, global = true, default_value = STATE_DIRECTORY, env = "ATOLL_STATE", value_name = "DIRECTORY")]
    pub state: PathBuf,
    /// Where cluster images and what they are built from are kept [default: ~/.cache/atoll]
    #[arg(long, global = true, env = "ATOLL_CACHE", value_name = "DIRECTORY")]
    pub cache: Option<PathBuf>,
    /// How much the cache may hold, in GiB; what was used longest ago goes first
    #[arg(long, global = true, env = "ATOLL_CACHE_LIMIT", value_name = "GIB", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub cache_limit: u64,
}

impl Common {
    /// The cluster that is meant.
    pub fn place(&self) -> Place {
        Place { state: self.state.clone(), name: self.name.clone() }
    }

    /// The store of cluster images.
    pub fn store(&self) -> installer::Result<installer::image::Store> {
        let cache = self.cache.clone().unwrap_or_else(installer::image::default_cache_dir);
        Ok(installer::image::Store::open(cache)?)
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Bring a cluster up, continue where an earlier `up` stopped, or repair it
    Up(Up),
    /// Remove a cluster and everything it left on this machine
    Down,
    /// Show what runs, what is ready and where it is
    Status {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Print a kubeconfig
    Kubeconfig {
        /// The administrator's, with every right
        #[arg(long)]
        admin: bool,
    },
    /// Tell what this machine has and lacks, and what follows
    Doctor {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Make this machine's programs and browsers trust the cluster's https addresses
    Trust {
        /// Take the trust away again
        #[arg(long)]
        remove: bool,
    },
    /// Build, carry and look at cluster images
    Image {
        #[command(subcommand)]
        command: Image,
    },
    /// Install apps from templates, list and remove them
    App {
        #[command(subcommand)]
        command: App,
    },
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
    /// What atoll starts itself as
    #[command(hide = true)]
    Internal {
        #[command(subcommand)]
        command: Internal,
    },
}

#[derive(Args)]
pub struct Up {
    /// A cluster image in the store, or a file that `image save` wrote; built when left out
    #[arg(long, value_name = "REF|FILE")]
    pub image: Option<String>,
    /// How many nodes
    #[arg(long, value_name = "N")]
    pub nodes: Option<u8>,
    /// The port for https on 127.0.0.1 [default: 443 if it is free]
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// The port for http on 127.0.0.1 [default: 80 if it is free]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// The port for the Kubernetes API on 127.0.0.1 [default: 6443 if it is free]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// Name the Debian packages that are missing rather than install them
    #[arg(long)]
    pub no_install: bool,
}

#[derive(Subcommand)]
pub enum Image {
    /// Build a cluster image; parts that didn't change are not built again
    Build {
        /// A Kubefile [default: the one of this checkout]
        #[arg(short, long, value_name = "KUBEFILE")]
        file: Option<PathBuf>,
        /// The image's name
        #[arg(short, long)]
        tag: Option<String>,
        /// Name the Debian packages that are missing rather than install them
        #[arg(long)]
        no_install: bool,
    },
    /// List the images in the store
    List {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Show an image's labels, layers and what they carry
    Inspect {
        reference: String,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Write an image into a file
    Save { reference: String, file: PathBuf },
    /// Read an image from a file that `save` wrote
    Load { file: PathBuf },
    /// Remove an image from the store
    Remove { reference: String },
}

#[derive(Subcommand)]
pub enum App {
    /// Install an app from a template
    Install {
        /// The template
        file: PathBuf,
        /// A value for one of the template's inputs
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
        set: Vec<(String, String)>,
        /// The namespace it is installed into
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Don't wait until it is ready
        #[arg(long)]
        no_wait: bool,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// List the apps that are installed
    List {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Remove an app and its data
    Uninstall {
        /// The name `list` shows
        app: String,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Keep the volumes
        #[arg(long)]
        keep_data: bool,
    },
}

#[derive(Subcommand)]
pub enum Internal {
    /// Keep a node
    KeepNode { directory: PathBuf },
    /// Be a node's first process
    Init { directory: PathBuf },
    /// Forward ports into a cluster
    Forward { directory: PathBuf },
}

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn values_may_hold_equal_signs() {
        assert_eq!(name_and_value("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(name_and_value("a").unwrap_err().contains("NAME=VALUE"));
        assert!(name_and_value("=a").is_err());
    }
}
