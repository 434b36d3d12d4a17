//! The words of the command line.

mod workspace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use installer::cluster::Place;
use installer::record::STATE_DIRECTORY;

pub use workspace::{MemberRole, Members, Workspace};

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
        #[arg(long, conflicts_with = "account")]
        admin: bool,
        /// The account's that is logged in under this name [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Log in to an account
    Login {
        /// The account's name
        #[arg(long, value_name = "ACCOUNT")]
        account: String,
        /// Read the password from the standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Forget a login
    Logout {
        /// The account's name [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Make accounts, list and remove them
    Account {
        #[command(subcommand)]
        command: Account,
    },
    /// Make workspaces, list and remove them, and say who works there
    Workspace {
        #[command(subcommand)]
        command: Workspace,
    },
    /// See who works in a workspace, change that, or leave
    Member {
        #[command(subcommand)]
        command: Member,
    },
    /// Invite somebody into a workspace, or accept an invitation
    Invite {
        #[command(subcommand)]
        command: Invite,
    },
    /// Let the pods of two workspaces talk, when both agree
    Peering {
        #[command(subcommand)]
        command: crate::peering::Words,
    },
    /// What several workspaces may use together
    Quota {
        #[command(subcommand)]
        command: crate::quota::Quota,
    },
    /// See and change what workspaces may use
    Plan {
        #[command(subcommand)]
        command: Plan,
    },
    /// Show what a workspace used this month, by object
    Usage {
        #[command(flatten)]
        of: OfWorkspace,
    },
    /// Show what a workspace costs this month
    Bill {
        #[command(flatten)]
        of: OfWorkspace,
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
    /// The port for the administrator's Kubernetes API on 127.0.0.1 [default: 6443 if it is free]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// The port for everybody's Kubernetes API on 127.0.0.1 [default: 7443 if it is free]
    #[arg(long, value_name = "PORT")]
    pub front_port: Option<u16>,
    /// Read the password of the first account, `admin`, from the standard input; without
    /// it one is made and shown once
    #[arg(long)]
    pub admin_password_stdin: bool,
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

/// Where an app is.
#[derive(Args)]
pub struct AppPlace {
    /// The workspace, with the rights of whoever is logged in
    #[arg(short, long)]
    pub workspace: Option<String>,
    /// Act as this account [default: who logged in last]
    #[arg(long, value_name = "ACCOUNT", requires = "workspace")]
    pub account: Option<String>,
    /// A namespace outside workspaces, with the administrator's rights
    #[arg(short, long, conflicts_with = "workspace", default_value = "default")]
    pub namespace: String,
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
        #[command(flatten)]
        place: AppPlace,
        /// Don't wait until it is ready
        #[arg(long)]
        no_wait: bool,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// List the apps that are installed
    List {
        #[command(flatten)]
        place: AppPlace,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Remove an app and its data
    Uninstall {
        /// The name `list` shows
        app: String,
        #[command(flatten)]
        place: AppPlace,
        /// Keep the volumes
        #[arg(long)]
        keep_data: bool,
    },
}

/// Whose money.
#[derive(Args)]
pub struct OfWorkspace {
    /// The workspace
    #[arg(short, long)]
    pub workspace: String,
    /// Ask as this account [default: who logged in last]
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

#[derive(Subcommand)]
pub enum Account {
    /// Make an account; without a password of your choice one is made and shown once
    Create {
        /// Its name, a DNS label
        account: String,
        /// What people call it
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// It operates the cloud: it may see and change everything
        #[arg(long)]
        operator: bool,
        /// Read the password from the standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give an account another password
    Password {
        account: String,
        /// Read the password from the standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the accounts
    List {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Say how many workspaces an account may own
    Limit { account: String, workspaces: u32 },
    /// Remove an account that owns no workspace
    Delete { account: String },
}

/// A workspace, with the rights of whoever is logged in.
#[derive(Args)]
pub struct InWorkspace {
    /// The workspace
    #[arg(short, long)]
    pub workspace: String,
    /// Act as this account [default: who logged in last]
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
}

#[derive(Subcommand)]
pub enum Member {
    /// List the members
    List {
        #[command(flatten)]
        place: InWorkspace,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Give a member another role
    Set {
        member: String,
        #[arg(long)]
        role: MemberRole,
        #[command(flatten)]
        place: InWorkspace,
    },
    /// Remove a member
    Remove {
        member: String,
        #[command(flatten)]
        place: InWorkspace,
    },
    /// Leave a workspace
    Leave {
        #[command(flatten)]
        place: InWorkspace,
    },
}

#[derive(Subcommand)]
pub enum Invite {
    /// Make an invitation; its token is shown once
    Create {
        #[command(flatten)]
        place: InWorkspace,
        /// What the one who accepts becomes; with `owner` the workspace is handed over
        #[arg(long, default_value = "developer")]
        role: InvitedRole,
        /// The only account that may accept it
        #[arg(long = "for", value_name = "ACCOUNT")]
        to: Option<String>,
        /// How many days it is good for
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=30))]
        days: u8,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// List a workspace's invitations
    List {
        #[command(flatten)]
        place: InWorkspace,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Take an invitation back
    Revoke {
        /// The name `list` shows
        invitation: String,
        #[command(flatten)]
        place: InWorkspace,
    },
    /// Accept an invitation by its token
    Accept {
        /// The token; read from the standard input when left out
        token: Option<String>,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
}

/// The roles somebody can be invited to.
#[derive(Clone, Copy, ValueEnum)]
pub enum InvitedRole {
    Viewer,
    Developer,
    Manager,
    Owner,
}

impl From<InvitedRole> for api::Role {
    fn from(role: InvitedRole) -> Self {
        match role {
            InvitedRole::Viewer => Self::Viewer,
            InvitedRole::Developer => Self::Developer,
            InvitedRole::Manager => Self::Manager,
            InvitedRole::Owner => Self::Owner,
        }
    }
}

#[derive(Subcommand)]
pub enum Plan {
    /// List the plans
    List {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Show what a plan allows
    Show {
        plan: String,
        #[arg(short, long, default_value = "yaml")]
        output: Output,
    },
    /// Make a plan, or change what is named of one
    Set(Box<PlanChanges>),
    /// Remove a plan that no workspace has
    Delete { plan: String },
}

/// What is to change of a plan.
#[derive(Args)]
pub struct PlanChanges {
    pub plan: String,
    /// The most of a resource, as in a ResourceQuota; `NAME=` takes the limit away
    #[arg(long = "hard", value_name = "NAME=QUANTITY", value_parser = name_and_value)]
    pub hard: Vec<(String, String)>,
    /// The Pod Security Standard
    #[arg(long)]
    pub pod_security: Option<PodSecurity>,
    /// Where images may come from, such as docker.io/library; `*` is anywhere
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub registries: Option<Vec<String>>,
    /// The storage classes; `*` is any
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub storage_classes: Option<Vec<String>>,
    /// The ingress classes; `*` is any
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub ingress_classes: Option<Vec<String>>,
    /// The gateway classes; `*` is any
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub gateway_classes: Option<Vec<String>>,
    /// The Gateways of other namespaces that routes may attach to; `*` is any
    #[arg(long, value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    pub gateways: Option<Vec<String>>,
    /// The priority classes
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub priority_classes: Option<Vec<String>>,
    /// The runtime classes
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub runtime_classes: Option<Vec<String>>,
    /// The labels of nodes by which pods may choose one
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub node_labels: Option<Vec<String>>,
    /// The keys of taints that pods may tolerate
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub tolerations: Option<Vec<String>>,
    /// The storage class of claims that name none; an empty one takes it away
    #[arg(long, value_name = "CLASS")]
    pub default_storage_class: Option<String>,
    /// The ingress class of Ingresses that name none
    #[arg(long, value_name = "CLASS")]
    pub default_ingress_class: Option<String>,
    /// The priority class of pods that name none
    #[arg(long, value_name = "CLASS")]
    pub default_priority_class: Option<String>,
    /// The runtime class of pods that name none
    #[arg(long, value_name = "CLASS")]
    pub default_runtime_class: Option<String>,
    /// A label of the only nodes that pods run on; `LABEL=` takes it away
    #[arg(long = "node", value_name = "LABEL=VALUE", value_parser = name_and_value)]
    pub nodes: Vec<(String, String)>,
    /// Requests a second that a workspace may have of each gateway; 0 is no limit, and an
    /// empty one leaves it to the gateway
    #[arg(long, value_name = "NUMBER", value_parser = most::<10_000_000>)]
    pub gateway_requests: Option<Most>,
    /// Requests at once, WebSockets among them
    #[arg(long, value_name = "NUMBER", value_parser = most::<10_000_000>)]
    pub gateway_concurrent: Option<Most>,
    /// Bytes of bodies a second, such as 50Mi
    #[arg(long, value_name = "SIZE", value_parser = most::<{ 1 << 40 }>)]
    pub gateway_bytes: Option<Most>,
    /// How many days a workspace can be restored that was deleted
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub deletion_days: Option<u32>,
}

/// A limit of a plan; None takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most(pub Option<u64>);

/// A number, also with a unit of Kubernetes' quantities, of at most `LARGEST`.
fn most<const LARGEST: u64>(text: &str) -> Result<Most, String> {
    if text.is_empty() {
        return Ok(Most(None));
    }
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let units = [("", 1), ("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let powers = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40)];
    let times = units.into_iter().chain(powers).find(|(known, _)| *known == unit).map(|(_, times)| times);
    let most = digits.parse::<u64>().ok().zip(times).and_then(|(number, times)| number.checked_mul(times));
    match most.filter(|most| *most <= LARGEST) {
        Some(most) => Ok(Most(Some(most))),
        None => Err(format!("write a number of at most {LARGEST}, such as 100 or 10k")),
    }
}

/// The Pod Security Standards that a plan can have.
#[derive(Clone, Copy, ValueEnum)]
pub enum PodSecurity {
    Restricted,
    Baseline,
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
    Yaml,
}

impl Output {
    /// Prints a value for programs to read.
    pub fn print(self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        match self {
            Self::Yaml => print!("{}", serde_yaml_ng::to_string(value)?),
            Self::Json | Self::Table => println!("{}", serde_json::to_string_pretty(value)?),
        }
        Ok(())
    }
}

pub fn name_and_value(text: &str) -> Result<(String, String), String> {
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
