//! The standard library for wasm, compiled once from Debian's sources.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::toolchain::Debian;
use crate::{Error, Options, at, cargo, inputs, output};

const TARGET: &str = "wasm32-unknown-unknown";
/// Changes when what is made here changes.
const REVISION: &str = "1";

/// The sysroot, which is made where it isn't there.
pub(crate) fn ensure(options: &Options, debian: &Debian) -> Result<PathBuf, Error> {
    let all = options.cache.join("wasm-sysroot");
    fs::create_dir_all(&all).map_err(at(&all))?;
    let sysroot = all.join(inputs::short_hash(&[debian.version.as_bytes(), REVISION.as_bytes()]));
    if sysroot.exists() {
        return Ok(sysroot);
    }
    // Two builds at once: the second waits, and finds it made.
    let lock = all.join("lock");
    let file = fs::File::create(&lock).map_err(at(&lock))?;
    let _held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| at(&lock)(error.into()))?;
    if sysroot.exists() {
        return Ok(sysroot);
    }
    (options.progress)("compiling the standard library for wasm, once: about two minutes");
    let work = tempfile::Builder::new().prefix("new-").tempdir_in(&all).map_err(at(&all))?;
    let made = work.path().join("sysroot");
    make(&made, work.path(), debian)?;
    // It appears under its name when it is complete.
    fs::rename(&made, &sysroot).map_err(at(&sysroot))?;
    Ok(sysroot)
}

fn make(sysroot: &Path, work: &Path, debian: &Debian) -> Result<(), Error> {
    let crate_folder = work.join("crate");
    let write = |name: &str, text: &str| {
        let path = crate_folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(at(&path))?;
        fs::write(&path, text).map_err(at(&path))
    };
    write("Cargo.toml", "[package]\nname = \"needs-std\"\nedition = \"2021\"\n[workspace]\n")?;
    write("src/lib.rs", "#![no_std]\n")?;
    // What the standard library depends on comes with its sources.
    let vendor = debian.sources.join("vendor");
    write(
        ".cargo/config.toml",
        &format!(
            "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = {:?}\n",
            vendor.display().to_string()
        ),
    )?;
    let mut cargo = cargo(&crate_folder);
    let target = work.join("target");
    cargo
        .env("RUSTC", &debian.rustc)
        // It is Debian's very compiler that these sources belong to.
        .env("RUSTC_BOOTSTRAP", "1")
        // With bitcode, so that link-time optimisation reaches into it.
        .env("CARGO_BUILD_RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_BUILD_BUILD_DIR", &target)
        .args(["build", "--quiet", "--offline", "--release", "--message-format=json-render-diagnostics"])
        .args(["--target", TARGET, "-Zbuild-std=std,panic_abort,test"]);
    let messages = output(cargo, "compiling the standard library for wasm")?;

    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries).map_err(at(&libraries))?;
    for library in libraries_in(&messages) {
        let library = Path::new(&library);
        if library.file_name().is_some_and(|name| !name.to_string_lossy().contains("needs_std")) {
            let to = libraries.join(library.file_name().unwrap_or_default());
            fs::copy(library, &to).map_err(at(library))?;
        }
    }
    // Procedural macros run here: they are compiled for this machine.
    let host = debian.version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let link = sysroot.join("lib/rustlib").join(host);
    symlink(Path::new("/usr/lib/rustlib").join(host), &link).map_err(at(&link))
}

/// The libraries that cargo's messages name.
fn libraries_in(messages: &str) -> Vec<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().filter(|name| name.ends_with(".rlib")).map(str::to_owned))
        .filter(|name| name.contains(TARGET))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::libraries_in;

    #[test]
    fn takes_the_libraries_for_wasm_and_nothing_else() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","filenames":["/t/wasm32-unknown-unknown/release/deps/libcore-1.rlib","/t/wasm32-unknown-unknown/release/deps/libcore-1.rmeta"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","filenames":["/t/release/build/libbuild-2.rlib"]}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(libraries_in(messages), ["/t/wasm32-unknown-unknown/release/deps/libcore-1.rlib"]);
    }
}
