//! Debian packages that a command needs: named first, then installed.

use anyhow::bail;
use installer::machine;

/// Installs what of `programs` is missing, or only names it.
pub fn ensure(programs: &[(&'static str, &'static str)], no_install: bool) -> anyhow::Result<()> {
    let missing = machine::missing_programs(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let names = packages.join(" ");
    if no_install {
        bail!("these Debian packages are missing: {names}; install them, or leave --no-install out");
    }
    eprintln!("installing Debian packages: {names}");
    machine::install_packages(&packages)?;
    Ok(())
}

/// Starts this command again as root when it isn't; returns only as root.
pub fn become_root() -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    eprintln!("atoll needs root for namespaces and mounts: going on with sudo");
    let this = std::env::current_exe()?;
    // sudo has a path of its own, on which a user's toolchains are not.
    let kept = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        ["HOME", "PATH", "XDG_CACHE_HOME"].contains(&name.as_ref())
            || ["ATOLL", "CARGO", "RUST", "GO"].iter().any(|prefix| name.starts_with(prefix))
    });
    let settings = kept.map(|(name, value)| {
        let mut setting = name;
        setting.push("=");
        setting.push(value);
        setting
    });
    let error = std::process::Command::new("sudo")
        .arg("env")
        .args(settings)
        .arg(this)
        .args(std::env::args_os().skip(1))
        .exec();
    bail!("atoll needs root and `sudo` can't be started ({error}): run it as root")
}
