//! A node from the host's side: starting it, looking at it, ending it, and
//! running commands in it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use super::init::NodeConfig;
use super::process::{self, Process};
use super::{cgroup, network};
use crate::{Error, Result, command};

fn init_file(directory: &Path) -> PathBuf {
    directory.join("init.pid")
}

fn keeper_file(directory: &Path) -> PathBuf {
    directory.join("keeper.pid")
}

/// The node's first process, when it runs.
pub fn running(directory: &Path) -> Option<Process> {
    Process::load(&init_file(directory))
}

/// Whether a node has its root, its network and its services.
fn is_ready(process: Process) -> bool {
    Path::new(&format!("/proc/{}/root/run/atoll/ready", process.pid)).exists()
}

/// Starts a node that doesn't run, and waits until its services may start.
pub fn start(config: &NodeConfig) -> Result<Process> {
    // One that was killed a moment ago is still there, and one that was started
    // a moment ago is not ready.
    let asked = Instant::now();
    while let Some(process) = running(&config.directory) {
        if is_ready(process) {
            return Ok(process);
        }
        if asked.elapsed() > Duration::from_secs(15) {
            stop(&config.directory)?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = serde_json::to_vec_pretty(config)
        .map_err(|source| Error::State { path: config.directory.join("node.json"), source })?;
    crate::record::write_atomically(&config.directory.join("node.json"), &text, 0o600)?;
    let _ = fs::remove_file(init_file(&config.directory));

    let log = config.directory.join("node.log");
    let mut keeper = process::detach("atoll-node", "keep-node", &config.directory, &log)?;

    let limit = Duration::from_secs(60);
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(process) = running(&config.directory).filter(|process| is_ready(*process)) {
            return Ok(process);
        }
        if let Ok(Some(status)) = keeper.try_wait() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(Error::Command {
                command: format!("starting node {}", config.name),
                reason: format!("{status}: {last} (all of it in {})", log.display()),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::Timeout {
        what: format!("node {} to start", config.name),
        seconds: limit.as_secs(),
        remedy: format!("see {}", log.display()),
    })
}

/// Keeps a node: places it in its cgroups, starts its first process, gives it
/// its link, and waits for its end, so that it leaves no zombie. Runs as a
/// process of its own.
pub fn keep(directory: &Path) -> Result<()> {
    let config = NodeConfig::load(directory)?;
    // Away from the terminal: Ctrl-C there must not end a node.
    let _ = nix::unistd::setsid();
    if let Some(own) = Process::of(i32::try_from(std::process::id()).unwrap_or_default()) {
        own.save(&keeper_file(directory))?;
    }
    // What an earlier life left: kubelet would take its pods' groups for running.
    cgroup::remove(&config.cgroups, &config.cluster, &config.name)?;
    cgroup::enter(&config.cgroups, &config.cluster, &config.name)?;
    let own = "/proc/self/ns/pid";
    let own_namespace = fs::File::open(own).map_err(Error::file("opening", own))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(Error::system("making the node's process namespace"))?;
    let this = std::env::current_exe().map_err(Error::file("finding", "this program"))?;
    let mut init = Command::new(this)
        .arg0("atoll-init")
        .args(["internal", "init"])
        .arg(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin")
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| Error::Command {
            command: "atoll internal init".into(),
            reason: error.to_string(),
        })?;
    // The next child was the node's first process; those that follow are ours.
    setns(own_namespace, CloneFlags::CLONE_NEWPID)
        .map_err(Error::system("returning to the machine's processes"))?;
    let pid = init.id();
    let given = give_link(&config, pid);
    if let Err(error) = given {
        let _ = init.kill();
        let _ = init.wait();
        return Err(error);
    }
    let status = init.wait().map_err(Error::file("waiting for", "the node's first process"))?;
    tracing::warn!(node = config.name, %status, "node ended");
    Err(Error::Command { command: format!("node {}", config.name), reason: status.to_string() })
}

/// Waits until the first process has a network of its own and connects it.
fn give_link(config: &NodeConfig, pid: u32) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/net").map_err(Error::file("reading", "/proc/self/ns/net"))?;
    let started = Instant::now();
    loop {
        let theirs = format!("/proc/{pid}/ns/net");
        match fs::read_link(&theirs) {
            Ok(namespace) if namespace != own => break,
            Ok(_) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(_) => {
                return Err(Error::Timeout {
                    what: format!("the network namespace of node {}", config.name),
                    seconds: 10,
                    remedy: "run `atoll doctor` to see what the machine lacks".into(),
                });
            }
            Err(error) => return Err(Error::file("reading", theirs)(error)),
        }
    }
    network::connect(config, pid)?;
    let process = Process::of(i32::try_from(pid).unwrap_or_default()).ok_or_else(|| Error::Command {
        command: format!("node {}", config.name),
        reason: "its first process ended at once".into(),
    })?;
    process.save(&init_file(&config.directory))
}

/// Ends a node and all that runs in it.
pub fn stop(directory: &Path) -> Result<()> {
    let limit = Duration::from_secs(10);
    // With the first process of a process namespace all the others go.
    if let Some(process) = running(directory) {
        process.end(Signal::SIGKILL, limit)?;
    }
    if let Some(keeper) = Process::load(&keeper_file(directory)) {
        keeper.end(Signal::SIGTERM, limit)?;
    }
    Ok(())
}

/// A command that runs in the node.
pub fn inside(process: Process, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &process.pid.to_string()])
        .args(["--mount", "--net", "--uts", "--ipc", "--cgroup", "--pid", "--"])
        .args(["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME=/root"])
        .arg(program);
    command
}

/// Runs a shell line in the node and returns what it prints.
pub fn shell(process: Process, line: &str) -> Result<String> {
    command::run(inside(process, "sh").args(["-ec", line]))
}
