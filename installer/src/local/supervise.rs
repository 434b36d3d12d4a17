//! Keeps a node's services running and reaps every process that ends in it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Error, Result};

/// A log is cut to nothing, after one copy, when it has grown past this.
const LOG_LIMIT: u64 = 32 << 20;
/// A service that ran this long was not failing at its start.
const STEADY: Duration = Duration::from_secs(30);
/// How long a service that ended is left alone at least.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// How long a service that keeps failing is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A program that is to run always.
pub struct Service {
    /// Its name, and its log's.
    pub name: &'static str,
    /// Its command line, given the root directory; `None` while it is not to run.
    pub command: fn(&Path) -> Option<Vec<String>>,
}

/// Runs services and starts each again when it ends.
pub struct Supervisor {
    services: Vec<Service>,
    running: HashMap<i32, (usize, Instant)>,
    /// When each service may be started (again), and how long it then pauses.
    next: Vec<(Instant, Duration)>,
}

impl Supervisor {
    /// A supervisor that has started nothing yet.
    pub fn new(services: Vec<Service>) -> Self {
        let next = services.iter().map(|_| (Instant::now(), SHORTEST_PAUSE)).collect();
        Self { services, running: HashMap::new(), next }
    }

    /// Supervises for as long as the process lives.
    pub fn run(mut self) -> Result<()> {
        let mut logs_checked = Instant::now();
        loop {
            self.reap()?;
            self.start_due();
            if logs_checked.elapsed() > Duration::from_secs(60) {
                logs_checked = Instant::now();
                for service in &self.services {
                    cut_log(Path::new(&log_path(service.name)));
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn reap(&mut self) -> Result<()> {
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(()),
                Ok(status) => self.ended(status),
                Err(nix::Error::ECHILD) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(Error::system("waiting for processes")(error)),
            }
        }
    }

    fn ended(&mut self, status: WaitStatus) {
        let Some((index, since)) = status.pid().and_then(|pid| self.running.remove(&pid.as_raw())) else {
            return;
        };
        let how = match status {
            WaitStatus::Exited(_, code) => format!("exit code {code}"),
            WaitStatus::Signaled(_, signal, _) => Signal::as_str(signal).to_string(),
            other => format!("{other:?}"),
        };
        let (when, pause) = &mut self.next[index];
        tracing::warn!(service = self.services[index].name, how, "service ended and is started again");
        // One that ran for a while starts at once; one that keeps failing waits.
        if since.elapsed() > STEADY {
            *pause = SHORTEST_PAUSE;
        }
        *when = Instant::now() + *pause;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    fn start_due(&mut self) {
        for (index, service) in self.services.iter().enumerate() {
            if self.running.values().any(|(running, _)| *running == index)
                || Instant::now() < self.next[index].0
            {
                continue;
            }
            let Some(words) = (service.command)(Path::new("/")) else { continue };
            match start(service.name, &words) {
                Ok(pid) => {
                    tracing::info!(service = service.name, pid, "service started");
                    self.running.insert(pid, (index, Instant::now()));
                }
                Err(error) => {
                    tracing::error!(service = service.name, %error, "service can't be started");
                    self.next[index].0 = Instant::now() + LONGEST_PAUSE;
                }
            }
        }
    }
}

fn log_path(name: &str) -> String {
    format!("/var/log/{name}.log")
}

fn start(name: &str, words: &[String]) -> Result<i32> {
    let path = log_path(name);
    let log =
        OpenOptions::new().append(true).create(true).open(&path).map_err(Error::file("opening", &path))?;
    let errors = log.try_clone().map_err(Error::file("opening", &path))?;
    let child = Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin")
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| Error::Command { command: words.join(" "), reason: error.to_string() })?;
    // `reap` waits for it by its pid; dropping the handle does nothing.
    Ok(i32::try_from(child.id()).unwrap_or_default())
}

/// Keeps one copy of a log that has grown too large. Its writer appends, so
/// that it goes on at the beginning.
fn cut_log(path: &Path) {
    let large = fs::metadata(path).is_ok_and(|data| data.len() > LOG_LIMIT);
    if large && fs::copy(path, path.with_extension("log.1")).is_ok() {
        let _ = File::options().write(true).open(path).and_then(|file| file.set_len(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_cut_and_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, "small").unwrap();
        cut_log(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "small");
        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        cut_log(&path);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(fs::metadata(directory.path().join("a.log.1")).unwrap().len(), LOG_LIMIT + 1);
    }
}
