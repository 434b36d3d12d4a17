//! Builds the desktop's files: compiles `frontend` to wasm, binds it to
//! JavaScript, gives each file a name by its content and compresses it.
//!
//! It must not know what the desktop does, nor who serves it. Start at
//! [`build`]; `toolchain.rs` finds a compiler, `sysroot.rs` makes its standard
//! library where there is none, `files.rs` writes what is served.

mod files;
mod inputs;
mod sysroot;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is built, and where.
pub struct Options {
    /// Atoll's checkout.
    pub workspace: PathBuf,
    /// The folder that gets the files. It is replaced as a whole, and only when
    /// all of it is there.
    pub output: PathBuf,
    /// What is kept between builds: `~/.cache/atoll`. See [`default_cache`].
    pub cache: PathBuf,
    /// Is told each step that takes long, before it begins.
    pub progress: fn(&str),
}

/// Why the desktop can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No compiler here makes wasm.
    #[error(
        "nothing here compiles Rust to wasm; `rustup target add wasm32-unknown-unknown`, \
         or on Debian: apt-get install {}", .0.join(" ")
    )]
    Packages(Vec<String>),
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("XDG_CACHE_HOME and HOME are not set; set one of them")]
    NoCache,
    /// A file can't be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program can't be started.
    #[error("`{program}` can't be started: {source}; install it")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A step ended in failure; what it had to say stands above.
    #[error("{step} failed ({status}); what it said stands above")]
    Step {
        /// Which.
        step: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The module can't be bound to JavaScript.
    #[error("wasm-bindgen refused the module: {0}")]
    Bind(String),
    /// The page lacks the place where a file's address belongs.
    #[error("frontend/index.html has no {0}; put it where the file's address belongs")]
    Place(&'static str),
}

/// Where Atoll keeps what it can make again: `atoll` below `XDG_CACHE_HOME`, or
/// below `~/.cache`.
///
/// # Errors
///
/// Neither variable is set.
pub fn default_cache() -> Result<PathBuf, Error> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.ok_or(Error::NoCache)?.join("atoll"))
}

/// Builds the desktop and returns the folder with its files, which is
/// [`Options::output`]. What was made from the same input is left as it is.
///
/// # Errors
///
/// Whatever [`Error`] names: no compiler, or a step that failed.
pub fn build(options: &Options) -> Result<PathBuf, Error> {
    let toolchain = toolchain::find(&options.workspace)?;
    let key = inputs::key(&options.workspace, &toolchain)?;
    if fs::read_to_string(options.output.join(inputs::KEY_FILE)).is_ok_and(|made| made == key) {
        return Ok(options.output.clone());
    }
    let module = compile(options, &toolchain)?;
    (options.progress)("binding the desktop to JavaScript and compressing it");
    files::write(options, &module, &key)?;
    Ok(options.output.clone())
}

/// Compiles `frontend`; returns the module's path.
fn compile(options: &Options, toolchain: &toolchain::Toolchain) -> Result<PathBuf, Error> {
    let mut cargo = cargo(&options.workspace);
    if let toolchain::Toolchain::Debian(debian) = toolchain {
        let sysroot = sysroot::ensure(options, debian)?;
        cargo
            .env("RUSTC", &debian.rustc)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &debian.linker)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", format!("--sysroot={}", sysroot.display()));
    }
    (options.progress)("compiling the desktop to wasm");
    // A directory of its own: what two compilers make of the same crates would
    // replace each other. And each checkout its own: cargo would take another's
    // for this one's, by their files' times.
    let target = options.cache.join("wasm-cargo").join(inputs::place(&options.workspace));
    cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_BUILD_BUILD_DIR", &target).args([
        "build",
        "--quiet",
        "--locked",
        "--package=frontend",
        "--bin=frontend",
        "--features=browser",
        "--target=wasm32-unknown-unknown",
        "--profile=wasm-release",
    ]);
    run(cargo, "compiling the desktop")?;
    Ok(target.join("wasm32-unknown-unknown/wasm-release/frontend.wasm"))
}

/// Cargo, free of the flags that were meant for programs of this machine.
fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).stdin(Stdio::null());
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo
}

fn run(mut command: Command, step: &'static str) -> Result<(), Error> {
    let status = command.status().map_err(|source| start(&command, source))?;
    if status.success() { Ok(()) } else { Err(Error::Step { step, status }) }
}

/// What a program prints, if it succeeds.
fn output(mut command: Command, step: &'static str) -> Result<String, Error> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|source| start(&command, source))?;
    if !output.status.success() {
        return Err(Error::Step { step, status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn start(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { path: path.to_path_buf(), source }
}
