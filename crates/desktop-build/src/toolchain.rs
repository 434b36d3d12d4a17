//! Which compiler makes the wasm: rustup's, where it has the target, else
//! Debian's, which comes with the sources of its standard library.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, output};

/// Debian's sources of the standard library.
const SOURCES: &str = "/usr/lib/rustlib/src/rust/library";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler for wasm.
pub(crate) enum Toolchain {
    /// The ordinary one; what it says of itself.
    Rustup(String),
    Debian(Debian),
}

/// Debian's compiler, which needs a standard library made for it.
pub(crate) struct Debian {
    pub rustc: PathBuf,
    pub linker: PathBuf,
    /// The folder with the sources of the standard library.
    pub sources: PathBuf,
    /// What it says of itself, with the sources' version.
    pub version: String,
}

impl Toolchain {
    pub fn version(&self) -> &str {
        match self {
            Self::Rustup(version) => version,
            Self::Debian(debian) => &debian.version,
        }
    }
}

pub(crate) fn find(workspace: &Path) -> Result<Toolchain, Error> {
    let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    if let Ok(root) = ask(&rustc, workspace, &["--print", "target-libdir", "--target=wasm32-unknown-unknown"])
        && has_core(Path::new(root.trim()))
    {
        return Ok(Toolchain::Rustup(ask(&rustc, workspace, &["-vV"])?));
    }
    debian(workspace)
}

/// Whether a folder of libraries has the one that every program needs.
fn has_core(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

fn debian(workspace: &Path) -> Result<Toolchain, Error> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let sources = PathBuf::from(SOURCES);
    let version = rustc.exists().then(|| ask(&rustc, workspace, &["-vV"])).transpose()?.unwrap_or_default();
    let release = field(&version, "release");
    let linker = PathBuf::from(format!("/usr/bin/wasm-ld-{}", linker_version(&version)));
    let missing = missing(release, sources.join("std/Cargo.toml").exists(), linker.exists());
    if !missing.is_empty() {
        return Err(Error::Packages(missing.into_iter().map(str::to_owned).collect()));
    }
    let source_version = std::fs::canonicalize(&sources).unwrap_or_else(|_| sources.clone());
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", "rust-web-src"]);
    let package = output(query, "asking for the version of rust-web-src")?;
    let version = format!("{version}{}\n{package}\n", source_version.display());
    Ok(Toolchain::Debian(Debian { rustc, linker, sources, version }))
}

/// The packages to install, by what was found.
fn missing(release: &str, sources: bool, linker: bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !new_enough(release) {
        missing.push("rustc-web");
    }
    if !sources {
        missing.push("rust-web-src");
    }
    if !linker {
        missing.push("lld-22");
    }
    missing
}

/// Whether a compiler is 1.95 or newer, as the workspace asks.
fn new_enough(release: &str) -> bool {
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) >= (1, 95)
}

/// The linker must read what the compiler's LLVM writes.
fn linker_version(version: &str) -> &str {
    field(version, "LLVM version").split('.').next().filter(|major| !major.is_empty()).unwrap_or("22")
}

/// A line of `rustc -vV`.
fn field<'a>(version: &'a str, name: &str) -> &'a str {
    version.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

fn ask(rustc: &Path, folder: &Path, words: &[&str]) -> Result<String, Error> {
    let mut command = Command::new(rustc);
    command.current_dir(folder).args(words);
    output(command, "asking the compiler about itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn names_exactly_the_packages_that_are_missing() {
        assert_eq!(missing("", false, false), ["rustc-web", "rust-web-src", "lld-22"]);
        assert_eq!(missing("1.63.0", true, true), ["rustc-web"]);
        assert_eq!(missing("1.95.0", true, false), ["lld-22"]);
        assert!(missing("1.100.1", true, true).is_empty());
    }

    #[test]
    fn reads_what_a_compiler_says_of_itself() {
        assert_eq!(field(VERSION, "release"), "1.96.0");
        assert_eq!(linker_version(VERSION), "22");
        assert_eq!(field(VERSION, "host"), "");
    }
}
