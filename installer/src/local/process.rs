//! Processes of ours that outlive the command: each is this program again, and
//! is known by its pid and the time it started.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, Result};

/// Starts `atoll internal WORD DIRECTORY` apart from the terminal, shown by `ps`
/// as `name`, with what it says in `log`.
pub fn detach(name: &str, word: &str, directory: &Path, log: &Path) -> Result<Child> {
    let output = fs::File::create(log).map_err(Error::file("creating", log))?;
    let errors = output.try_clone().map_err(Error::file("creating", log))?;
    let this = std::env::current_exe().map_err(Error::file("finding", "this program"))?;
    Command::new(this)
        .arg0(name)
        .args(["internal", word])
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| Error::Command {
            command: format!("atoll internal {word}"),
            reason: error.to_string(),
        })
}

/// A process, as the host sees it. The start time tells it from a later one that
/// was given the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The pid in the host's namespace.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    start: u64,
}

impl Process {
    /// Looks a running process up.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).filter(|(state, _)| *state != 'Z').map(|(_, start)| Self { pid, start })
    }

    /// Reads what [`Process::save`] wrote; `None` when that process has ended.
    pub fn load(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        let known = Self { pid: pid.parse().ok()?, start: start.parse().ok()? };
        (Self::of(known.pid) == Some(known)).then_some(known)
    }

    /// Writes the process down.
    pub fn save(&self, file: &Path) -> Result<()> {
        crate::record::write_atomically(file, format!("{} {}\n", self.pid, self.start).as_bytes(), 0o600)
    }

    /// Kills it and waits until it is gone.
    pub fn end(&self, signal: Signal, limit: Duration) -> Result<()> {
        let _ = kill(Pid::from_raw(self.pid), signal);
        let started = Instant::now();
        while Self::of(self.pid) == Some(*self) {
            if started.elapsed() > limit {
                return Err(Error::Timeout {
                    what: format!("process {} to end", self.pid),
                    seconds: limit.as_secs(),
                    remedy: "see what holds it with `ps`, and run `atoll down` again".into(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// The state letter and the start time of a `/proc/PID/stat` line (proc(5)).
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let after = stat.rsplit_once(") ")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_pid_that_was_given_to_another_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pid");
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        own.save(&file).unwrap();
        assert_eq!(Process::load(&file), Some(own));
        Process { start: own.start + 1, ..own }.save(&file).unwrap();
        assert_eq!(Process::load(&file), None);
    }
}
