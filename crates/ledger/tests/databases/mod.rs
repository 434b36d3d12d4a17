//! Databases of a test's own: a file for SQLite, and a PostgreSQL server that
//! listens on a socket in the test's folder and ends with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::{Error, Ledger};
use tempfile::TempDir;

pub struct Databases {
    folder: TempDir,
    server: Child,
}

impl Databases {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // PostgreSQL refuses to run as root.
        run(Command::new("chmod").arg("0777").arg(folder.path()));
        let programs = programs();
        run(as_nobody(&programs.join("initdb"))
            .args(["--auth=trust", "--username=test", "--no-sync", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null()));
        let server = as_nobody(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", folder.path().display()))
            .arg("-D")
            .arg(&data)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, server }
    }

    /// An empty ledger in each kind of database.
    pub async fn ledgers(&self) -> [Ledger; 2] {
        let lite = format!("sqlite:{}", self.folder.path().join("ledger.db").display());
        [Ledger::open(&lite).await.unwrap(), self.postgres().await]
    }

    pub async fn postgres(&self) -> Ledger {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        let url = format!("postgres://test@{host}/postgres");
        let started = Instant::now();
        loop {
            match Ledger::open(&url).await {
                Ok(ledger) => return ledger,
                // It takes a moment to start.
                Err(Error::Open(_)) if started.elapsed() < Duration::from_secs(60) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        // setpriv became the server, so the pid is the server's.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("install Debian's package postgresql");
    versions.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
