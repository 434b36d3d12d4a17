//! What the end-to-end tests share: the command, a cluster, kubectl, curl, a
//! browser, and a look at the machine.
//!
//! Nothing of the product is called but its command: the tests see what a
//! person sees.

// Tests end by panicking; what this crate has is only ever part of one.
#![allow(clippy::unwrap_used)]

pub mod machine;
mod person;
pub mod process;

pub use person::{PASSWORD, Person};

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output of a command that must succeed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "it failed: {self:?}");
        self.out
    }
}

/// Runs a command to its end, with a line on its standard input.
pub fn run_with(command: &mut Command, line: &str) -> Said {
    use std::io::Write;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    Said::of(&child.wait_with_output().unwrap())
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
    Said::of(&output)
}

/// The command under test: the one that `cargo verify` built.
pub fn atoll() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/atoll");
    std::env::var_os("ATOLL").map_or(built, PathBuf::from)
}

/// Calls `check` until it is content or time is over, and then says what it was
/// last.
pub fn within<T>(limit: Duration, mut check: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(last) if started.elapsed() > limit => return Err(format!("after {limit:?}: {last}")),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Waits [`within`] the limit, and fails the test when it is over.
pub fn eventually<T>(what: &str, limit: Duration, check: impl FnMut() -> Result<T, String>) -> T {
    within(limit, check).unwrap_or_else(|last| panic!("{what}, {last}"))
}

/// A cluster that a test may use.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    pub state: PathBuf,
}

impl Cluster {
    /// A cluster of that name, which may not be there yet.
    pub fn named(name: &str) -> Self {
        let state = std::env::var_os("ATOLL_E2E_STATE");
        Self { name: name.into(), state: state.map_or_else(|| "/var/lib/atoll-e2e".into(), PathBuf::from) }
    }

    /// The one that tests share: one that is up and is named by `ATOLL_E2E_SHARED`, or
    /// else brought up by the first that asks. `ATOLL_E2E_STATE` says where.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            if let Ok(name) = std::env::var("ATOLL_E2E_SHARED") {
                return Self::named(&name);
            }
            let cluster = Self::named("shared");
            cluster.atoll(&["up"]).ok();
            cluster
        })
    }

    /// The command with its words, for this cluster.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(atoll());
        command.args(["--name", &self.name]).arg("--state").arg(&self.state).args(words);
        command
    }

    /// Runs the command.
    pub fn atoll(&self, words: &[&str]) -> Said {
        run(&mut self.command(words))
    }

    /// `status -o json`.
    pub fn status(&self) -> Value {
        let said = self.atoll(&["status", "-o", "json"]);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    pub fn directory(&self) -> PathBuf {
        self.state.join(&self.name)
    }

    /// The port of https on 127.0.0.1.
    pub fn https(&self) -> u64 {
        self.status()["cluster"]["ports"]["https"].as_u64().unwrap()
    }

    /// The pid of the first process of node `index`, counted from 1.
    pub fn node_pid(&self, index: usize) -> u64 {
        self.status()["nodes"][index - 1]["pid"].as_u64().unwrap()
    }

    /// kubectl of the cluster image, through the forwarded port.
    pub fn kubectl(&self, words: &[&str]) -> Said {
        run(self.kubectl_command().args(words))
    }

    /// Lets a pod use about a second of a processor: what an idle app uses in a
    /// minute may cost less than the smallest amount that is told.
    pub fn work(&self, namespace: &str, pod: &str) {
        let line = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done";
        self.kubectl(&["exec", "-n", namespace, pod, "--", "sh", "-c", line]).ok();
    }

    /// The programs in the kernel are detached while `work` runs, and the agent is
    /// kept from putting them back; afterwards pods get them again.
    pub fn without_data_path(&self, work: impl FnOnce()) {
        let stop = r#"{"spec":{"template":{"spec":{"nodeSelector":{"atoll.dev/none":"true"}}}}}"#;
        let start = r#"[{"op":"remove","path":"/spec/template/spec/nodeSelector"}]"#;
        let agent = ["-n", "atoll-system", "daemonset", "agent"];
        self.kubectl(&[&["patch"], &agent[..], &["-p", stop]].concat()).ok();
        eventually("the agent has ended", Duration::from_secs(60), || {
            let pods =
                self.kubectl(&["get", "pods", "-n", "atoll-system", "-l", "app=agent", "-o", "name"]).ok();
            if pods.trim().is_empty() { Ok(()) } else { Err(pods) }
        });
        let pid = self.node_pid(1).to_string();
        run(Command::new("nsenter").args(["-t", &pid, "-m", "--", "sh", "-c", "rm -rf /sys/fs/bpf/atoll*"]))
            .ok();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        self.kubectl(&[&["patch", "--type=json"], &agent[..], &["-p", start]].concat()).ok();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    fn kubectl_command(&self) -> Command {
        static KUBECTL: OnceLock<PathBuf> = OnceLock::new();
        let program = KUBECTL.get_or_init(|| {
            let layers = self.status()["cluster"]["layers"].clone();
            let layers: Vec<PathBuf> = serde_json::from_value(layers).unwrap();
            let found = layers.iter().map(|layer| layer.join("node/usr/bin/kubernetes"));
            found.into_iter().find(|path| path.exists()).expect("no layer has Kubernetes' programs")
        });
        let mut command = Command::new(program);
        command.arg("kubectl").env("KUBECONFIG", self.directory().join("admin.conf"));
        // What it remembers of another cluster on the same port would mislead it.
        command.env("KUBECACHEDIR", self.directory().join("kubectl"));
        command
    }

    /// kubectl with a kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path, words: &[&str]) -> Said {
        run(self.kubectl_command().env("KUBECONFIG", kubeconfig).args(words))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(manifests.as_bytes()).unwrap();
        self.kubectl(&["apply", "-f", &file.path().display().to_string()]).ok();
    }

    /// The cluster's authority, in a file.
    pub fn authority(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let words = ["get", "secret", "-n", "atoll-system", "certificate-authority", "-o"];
        let said =
            self.kubectl(&[&words[..], &["go-template={{index .data \"tls.crt\" | base64decode}}"]].concat());
        std::fs::write(file.path(), said.ok()).unwrap();
        file
    }

    /// Asks an address with curl, believing the cluster's authority alone;
    /// the status and the body.
    pub fn curl(&self, address: &str) -> (String, String) {
        let authority = self.authority();
        let said = run(Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "10",
                "--write-out",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(authority.path())
            .arg(address));
        match said.out.rsplit_once('\n') {
            Some((body, status)) if said.code == Some(0) => (status.into(), body.into()),
            _ => (String::new(), said.err),
        }
    }

    /// What a real browser shows at an address, believing the cluster's
    /// authority alone.
    pub fn browse(&self, address: &str) -> String {
        let home = TempDir::new().unwrap();
        let database = home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&database).unwrap();
        let name = format!("sql:{}", database.display());
        let authority = self.authority();
        run(Command::new("certutil").args(["-N", "--empty-password", "-d", &name])).ok();
        let words = ["-A", "-d", &name, "-n", "atoll", "-t", "C,,", "-i"];
        run(Command::new("certutil").args(words).arg(authority.path())).ok();
        let profile = home.path().join("profile");
        run(Command::new("chromium")
            .env("HOME", home.path())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.display()))
            // The page's own clock runs on until nothing is under way.
            .args(["--timeout=15000", "--virtual-time-budget=15000", "--dump-dom", address]))
        .ok()
    }

    /// Installs the example app and returns its name and address.
    pub fn install_hello(&self, whom: &str, storage: bool) -> (String, String) {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.yaml");
        let said = self.atoll(&[
            "app",
            "install",
            &template.display().to_string(),
            "--set",
            &format!("whom={whom}"),
            "--set",
            &format!("storage={storage}"),
            "-o",
            "json",
        ]);
        let instance: Value = serde_json::from_str(&said.ok()).unwrap();
        let name = instance["metadata"]["name"].as_str().unwrap().to_string();
        let address = instance["status"]["addresses"][0].as_str().unwrap().to_string();
        (name, address)
    }

    /// Waits until an address answers 200 with some text in it.
    pub fn answers(&self, address: &str, text: &str) {
        eventually(&format!("{address} should answer with {text}"), Duration::from_secs(60), || {
            let (status, body) = self.curl(address);
            if status == "200" && body.contains(text) { Ok(()) } else { Err(format!("{status} {body}")) }
        });
    }
}

/// Takes a cluster down when a test is over, however it ended.
pub struct Guard(pub Cluster);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.atoll(&["down"]);
    }
}
