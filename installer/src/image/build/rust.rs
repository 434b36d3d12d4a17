//! The parts that are ours: programs by cargo, the kernel half of the network and
//! the desktop by compilers of their own, `pause` by the compiler alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Builder;
use super::command::{ask, run};
use super::container::copy_folder;
use super::part::{Key, Part};
use crate::image::blobs::{link_or_copy, set_mode};
use crate::image::error::Context as _;
use crate::image::{Error, Result, oci};

/// What runs in the cluster: the roles, and the CNI plugin that the agent puts
/// where the container runtime looks.
const PROGRAMS: [&str; 2] = ["atolld", "atoll-cni"];

impl Builder<'_> {
    /// Our programs in the cluster, whose key is what cargo made of them: cargo
    /// knows best what changed.
    pub(super) fn atolld(&self) -> Result<Part> {
        if let Some(built) = self.atolld.get() {
            return Ok(built.clone());
        }
        let built = self.build_atolld()?;
        Ok(self.atolld.get_or_init(|| built).clone())
    }

    /// The kernel half of the network, for another target and so by another
    /// compiler.
    pub(super) fn network(&self) -> Result<Part> {
        self.progress.step("building the network's programs");
        let log = self.log("network");
        let made = self.work("network")?;
        let object = made.path().join("network.o");
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let mut build = Command::new(self.source.join("crates/network-ebpf/build.sh"));
        build.arg(&object).arg(self.cache.join("ebpf")).env("CARGO", cargo).env("ATOLL_CACHE", &self.cache);
        run(&mut build, "building the network's programs", &log, self.progress, |line, state| {
            state.detail = line.trim().to_owned();
        })?;
        let key = Key::new("network 1").with_file("object", &object)?.finish();
        self.parts.get("network", &key, |into| {
            let dir = into.join("usr/lib/atoll");
            std::fs::create_dir_all(&dir).on("making", &dir)?;
            let to = dir.join("network.o");
            std::fs::copy(&object, &to).map(drop).on("writing", &to)
        })
    }

    /// The desktop's files: wasm, and so by another compiler.
    pub(super) fn desktop(&self) -> Result<Part> {
        self.progress.step("building the desktop");
        let log = self.log("desktop");
        let made = self.work("desktop")?;
        let folder = made.path().join("desktop");
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let mut build = as_caller(&cargo);
        build.current_dir(&self.source).args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "--bin=xtask",
            "--",
        ]);
        build.args(["desktop", "--output"]).arg(&folder).arg("--cache").arg(&self.cache);
        run(&mut build, "building the desktop", &log, self.progress, |line, state| {
            state.detail = line.trim().to_owned();
        })?;
        let key = Key::new("desktop 1").with_folder("files", &folder)?.finish();
        self.parts.get("desktop", &key, |into| copy_folder(&folder, &into.join("usr/share/atoll/desktop")))
    }

    /// The store's templates.
    pub(super) fn templates(&self) -> Result<Part> {
        let folder = self.images().join("store");
        let key = Key::new("templates 1").with_folder("files", &folder)?.finish();
        self.parts
            .get("templates", &key, |into| copy_folder(&folder, &into.join("usr/share/atoll/templates")))
    }

    fn work(&self, name: &str) -> Result<tempfile::TempDir> {
        let parent = self.parts.dir();
        tempfile::Builder::new()
            .prefix(&format!(".new-{name}-"))
            .tempdir_in(parent)
            .on("making a folder in", parent)
    }

    fn build_atolld(&self) -> Result<Part> {
        self.progress.step("building atolld");
        let log = self.log("atolld");
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let mut tree = Command::new(&cargo);
        tree.current_dir(&self.source).args([
            "tree",
            "--package=atolld",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
        ]);
        tree.arg("--offline");
        let total = ask(&mut tree, "listing atolld's crates", &log).ok().map(|listed| {
            let mut crates: Vec<_> = listed.lines().map(|l| l.trim_end_matches(" (*)")).collect();
            crates.sort_unstable();
            crates.dedup();
            crates.len() as u64
        });
        let mut build = as_caller(&cargo);
        build.current_dir(&self.source).args(["build", "--release", "--locked"]);
        build.args(PROGRAMS.map(|program| format!("--bin={program}")));
        build.arg("--message-format=json-render-diagnostics");
        if self.offline {
            build.arg("--offline");
        }
        let mut executables = std::collections::BTreeMap::new();
        let mut built = 0;
        run(&mut build, "building atolld", &log, self.progress, |line, state| {
            let said = line.trim();
            if let Some(name) = said.strip_prefix("Compiling ") {
                built += 1;
                state.detail = format!("crates compiled; {name}");
                state.done = Some(built);
                state.total = total.map(|total| total.max(built));
            } else if !said.is_empty() && !said.starts_with('{') {
                // Such as that it waits for another cargo.
                state.detail = format!("building atolld: {said}");
            } else if said.contains("\"executable\":\"") {
                let message: Option<serde_json::Value> = serde_json::from_str(said).ok();
                if let Some(path) =
                    message.as_ref().and_then(|m| m.get("executable")).and_then(|p| p.as_str())
                {
                    let path = PathBuf::from(path);
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    executables.insert(name, path);
                }
            }
        })?;
        let mut key = Key::new("atolld 3").with("architecture", oci::this_architecture());
        for program in PROGRAMS {
            let path = executables.get(program).ok_or_else(|| Error::Build {
                what: program.to_owned(),
                why: format!("cargo named no such program; see {}", log.display()),
            })?;
            key = key.with_file(program, path)?;
        }
        self.parts.get("atolld", &key.finish(), |into| {
            for program in PROGRAMS {
                let to = place(into, program)?;
                std::fs::copy(&executables[program], &to).map(drop).on("writing", &to)?;
                set_mode(&to, 0o755)?;
            }
            Ok(())
        })
    }

    /// The program of every pod's first container: static, and of one file.
    pub(super) fn pause(&self) -> Result<Part> {
        let source = self.images().join("pause/pause.rs");
        let log = self.log("pause");
        let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        let version = ask(
            Command::new(&rustc).current_dir(&self.source).arg("--version"),
            "asking for rustc's version",
            &log,
        )?;
        let flags = [
            "--edition=2024",
            "-Copt-level=z",
            "-Cpanic=abort",
            "-Ctarget-feature=+crt-static",
            "-Cstrip=symbols",
            "-Clto",
        ];
        let key = Key::new("pause 1")
            .with("architecture", oci::this_architecture())
            .with("rustc", version)
            .with("flags", flags.join(" "))
            .with_file("source", &source)?
            .finish();
        self.parts.get("pause", &key, |into| {
            self.require("cc")?;
            self.progress.step("building pause");
            let to = place(into, "pause")?;
            let work = tempfile::tempdir().on("making", Path::new("a temporary folder"))?;
            let made = work.path().join("pause");
            let mut command = Command::new(&rustc);
            command
                .current_dir(&self.source)
                .args(flags)
                .arg("--remap-path-prefix")
                .arg(format!("{}=.", self.source.display()));
            command.arg("-o").arg(&made).arg(&source);
            run(&mut command, "building pause", &log, self.progress, |_, _| {})?;
            link_or_copy(&made, &to)?;
            set_mode(&to, 0o755)
        })
    }
}

fn place(into: &Path, name: &str) -> Result<PathBuf> {
    let dir = into.join("usr/bin");
    std::fs::create_dir_all(&dir).on("making", &dir)?;
    Ok(dir.join(name))
}
/// A program as the user who called sudo, so that what it writes into the
/// checkout stays that user's.
fn as_caller(program: &Path) -> Command {
    let id = |name| std::env::var(name).ok().filter(|id| id != "0");
    let mut command = match (id("SUDO_UID"), id("SUDO_GID")) {
        (Some(user), Some(group)) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user, "--regid", &group, "--init-groups", "--"]).arg(program);
            command
        }
        _ => Command::new(program),
    };
    // What an outer cargo says of its own crate; some build scripts look at it, and
    // would run again, with all that follows, whenever somebody else calls.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
