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
    let error = std::process::Command::new("sudo")
        .arg("--preserve-env=HOME,PATH,XDG_CACHE_HOME,ATOLL_NAME,ATOLL_STATE,ATOLL_CACHE,ATOLL_LOG")
        .arg(this)
        .args(std::env::args_os().skip(1))
        .exec();
    bail!("atoll needs root and `sudo` can't be started ({error}): run it as root")
}
