//! Building a cluster image.
//!
//! A Kubefile names parts (`COPY --from=PART`); each part is made once for each
//! state of its inputs and kept under its key ([`part`]); each `COPY` becomes one
//! layer ([`assemble`]), which is packed once for each state of what it copies.

mod assemble;
mod command;
mod container;
mod debian;
mod go;
mod manifests;
pub(crate) mod part;
mod rust;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::part::{Part, Parts};
use super::kubefile::Kubefile;
use super::store::default_cache_dir;
use super::{Error, Image, Reference, Result, Store, oci};
use crate::image::error::Context as _;
use crate::progress::Progress;

/// The name of the image that the product's own Kubefile makes.
pub const DEFAULT_NAME: &str = "atoll/cluster:latest";

/// A program that a build calls, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RequiredPackage {
    /// The Debian package.
    pub package: &'static str,
    /// The program in it.
    pub command: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// What must be installed before [`build()`] with the product's own Kubefile.
pub const REQUIRED_PACKAGES: &[RequiredPackage] = &[
    RequiredPackage {
        package: "mmdebstrap",
        command: "mmdebstrap",
        purpose: "node and container images from Debian packages",
    },
    RequiredPackage { package: "buildah", command: "buildah", purpose: "container images" },
    RequiredPackage { package: "gcc", command: "cc", purpose: "linking atolld and pause" },
    RequiredPackage {
        package: "python3-venv",
        command: "python3",
        purpose: "Go's toolchain, where the machine has none that is new enough",
    },
    // Debian's compiler stays behind rustup's on the path: these are known by
    // their files.
    RequiredPackage {
        package: "rustc-web",
        command: "/usr/bin/rustc",
        purpose: "the desktop and the network's programs, for other targets",
    },
    RequiredPackage {
        package: "rust-web-src",
        command: "/usr/lib/rustlib/src/rust/library",
        purpose: "the desktop's standard library",
    },
    RequiredPackage { package: "lld-22", command: "wasm-ld-22", purpose: "linking the desktop" },
    RequiredPackage {
        package: "libstd-rust-web-dev-bpf",
        command: "/usr/lib/rustlib/bpfel-unknown-none",
        purpose: "the network's programs",
    },
    RequiredPackage { package: "llvm-22", command: "llvm-ar-22", purpose: "the network's programs" },
    RequiredPackage {
        package: "llvm-22-dev",
        command: "/usr/lib/llvm-22/include/llvm-c",
        purpose: "building the linker of the network's programs",
    },
];

/// What to build, from what, into where.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The checkout of the product: where `images/` and `crates/atolld` are.
    pub source: PathBuf,
    /// Somebody's own Kubefile; its folder is the context. Without one, the
    /// product's.
    pub kubefile: Option<PathBuf>,
    /// The image's name in the store.
    pub name: String,
    /// The cache folder.
    pub cache: PathBuf,
    /// Fetch nothing: fail when a part isn't in the cache.
    pub offline: bool,
    /// How many bytes the cache may hold: what was used longest ago makes room.
    pub limit: u64,
}

impl BuildOptions {
    /// The product's own image, in the ordinary cache.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            kubefile: None,
            name: DEFAULT_NAME.to_owned(),
            cache: default_cache_dir(),
            offline: false,
            limit: Store::LIMIT,
        }
    }
}

/// Builds a cluster image and puts it into the store. What was built before and
/// has not changed is not built again.
pub fn build(options: &BuildOptions, progress: &dyn Progress) -> Result<Image> {
    let name = match Reference::parse(&options.name)? {
        Reference::Name(name) => name,
        Reference::Digest(_) => {
            return Err(Error::Reference {
                text: options.name.clone(),
                why: "an image is built under a name",
            });
        }
    };
    let source = std::path::absolute(&options.source).on("finding", &options.source)?;
    let store = Store::open(&options.cache)?;
    let file = options.kubefile.clone().unwrap_or_else(|| source.join("images/Kubefile"));
    let file = std::path::absolute(&file).on("finding", &file)?;
    let text = std::fs::read_to_string(&file).on("reading", &file)?;

    let builder = Builder {
        parts: Parts::new(store.cache())?,
        cache: store.cache().to_owned(),
        source,
        offline: options.offline,
        progress,
        go: OnceCell::new(),
        tags: OnceCell::new(),
        atolld: OnceCell::new(),
    };
    let _building = builder.parts.lock(|why| progress.update(why, None, None))?;
    let args = builder.args(&text)?;
    let kubefile = Kubefile::parse(&text, &file, &args)?;

    let before = store.find(&name).ok().map(|image| image.digest);
    // A part that turns out damaged is thrown away and made again, once.
    let mut again = true;
    loop {
        let attempt = builder
            .parts_of(&kubefile, &file)
            .and_then(|parts| assemble::assemble(&store, &kubefile, &file, &parts, &name, progress));
        match attempt {
            Err(Error::DamagedBlob { path, .. }) if again && path.starts_with(builder.parts.dir()) => {
                progress.step(&format!("{} is damaged in the cache: building it again", path.display()));
                again = false;
            }
            Err(error) => return Err(error),
            Ok(image) => {
                if before.as_ref() != Some(&image.digest) {
                    store.evict(options.limit, std::slice::from_ref(&image.digest))?;
                }
                return Ok(image);
            }
        }
    }
}

/// What all parts of one build share.
pub(crate) struct Builder<'a> {
    source: PathBuf,
    cache: PathBuf,
    offline: bool,
    progress: &'a dyn Progress,
    parts: Parts,
    go: OnceCell<go::Toolchain>,
    tags: OnceCell<BTreeMap<String, String>>,
    atolld: OnceCell<Part>,
}

impl Builder<'_> {
    fn images(&self) -> PathBuf {
        self.source.join("images")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{name}.log"))
    }

    /// What a Kubefile's `ARG` can take: the target's processor, and Kubernetes'
    /// version where the checkout is at hand.
    fn args(&self, text: &str) -> Result<BTreeMap<String, String>> {
        let mut args = BTreeMap::from([("TARGETARCH".to_owned(), oci::this_architecture().to_owned())]);
        if text.contains("KUBERNETES_VERSION") {
            args.insert("KUBERNETES_VERSION".to_owned(), go::kubernetes_version(&self.images())?);
        }
        Ok(args)
    }

    fn parts_of(&self, kubefile: &Kubefile, file: &Path) -> Result<BTreeMap<String, Part>> {
        let mut parts = BTreeMap::new();
        for copy in &kubefile.copies {
            if let Some(name) = &copy.from
                && !parts.contains_key(name)
            {
                let part = self.part(name, file, copy.line)?;
                parts.insert(name.clone(), part);
            }
        }
        Ok(parts)
    }

    /// Makes or finds what `COPY --from=<name>` copies from.
    fn part(&self, name: &str, file: &Path, line: usize) -> Result<Part> {
        if let Some(group) = name.strip_prefix("images-") {
            return self.group(group);
        }
        match name {
            "debian" => self.node_base(),
            "manifests" => self.manifests(),
            "atolld" => self.atolld(),
            "desktop" => self.desktop(),
            "network" => self.network(),
            "templates" => self.templates(),
            "pause" => self.pause(),
            _ => match go::SETS.iter().find(|set| set.part == name) {
                Some(set) => self.go_programs(set),
                None => Err(Error::Kubefile {
                    file: file.to_owned(),
                    line,
                    why: format!(
                        "there is no part {name:?}: there are debian, manifests, images-<group>, atolld, desktop, network, templates, pause, {}",
                        go::SETS.iter().map(|s| s.part).collect::<Vec<_>>().join(", ")
                    ),
                }),
            },
        }
    }

    fn require(&self, program: &str) -> Result<()> {
        let there = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
        if there {
            return Ok(());
        }
        let package = REQUIRED_PACKAGES.iter().find(|p| p.command == program).map_or(program, |p| p.package);
        Err(Error::MissingProgram { program: program.to_owned(), package: package.to_owned() })
    }
}
