//! Somebody with an account and a workspace, who uses the command and kubectl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::{Cluster, Said, run, run_with};

/// Somebody with an account, a login and a workspace.
pub struct Person {
    cluster: Cluster,
    pub account: String,
    pub workspace: String,
    /// The workspace's namespace.
    pub namespace: String,
    home: TempDir,
}

/// Everybody's.
pub const PASSWORD: &str = "correct horse battery staple";

impl Person {
    /// Makes the account and the workspace, and logs in.
    pub fn new(cluster: &Cluster, account: &str, workspace: &str) -> Self {
        let mut person = Self::alone(cluster, account);
        let said = person.atoll(&["workspace", "create", workspace, "--owner", account]).ok();
        let namespace = said.split("namespace is ").nth(1).unwrap().trim_end_matches(['.', '\n']).to_string();
        person.workspace = workspace.into();
        person.namespace = namespace;
        person
    }

    /// Makes the account, without a workspace, and logs in.
    pub fn alone(cluster: &Cluster, account: &str) -> Self {
        let person = Self {
            cluster: cluster.clone(),
            account: account.into(),
            workspace: String::new(),
            namespace: String::new(),
            home: TempDir::new().unwrap(),
        };
        person.with_password(PASSWORD, &["account", "create", account, "--password-stdin"]).ok();
        // The server hears of the account a moment later.
        crate::eventually("the login", std::time::Duration::from_secs(30), || {
            let said = person.login(PASSWORD);
            if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
        });
        std::fs::write(person.kubeconfig(), person.atoll(&["kubeconfig", "--account", account]).ok())
            .unwrap();
        person
    }

    /// The file with this person's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// Logs in.
    pub fn login(&self, password: &str) -> Said {
        self.with_password(password, &["login", "--account", &self.account, "--password-stdin"])
    }

    fn with_password(&self, password: &str, words: &[&str]) -> Said {
        run_with(self.cluster.command(words).env("XDG_CONFIG_HOME", self.home.path()), password)
    }

    /// The command, as this person.
    pub fn atoll(&self, words: &[&str]) -> Said {
        run(self.cluster.command(words).env("XDG_CONFIG_HOME", self.home.path()))
    }

    /// kubectl with this person's kubeconfig.
    pub fn kubectl(&self, words: &[&str]) -> Said {
        self.cluster.kubectl_as(&self.kubeconfig(), words)
    }

    /// The token in the kubeconfig.
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"]["token"].as_str().unwrap().to_string()
    }

    /// Where the Kubernetes API is for this person, as the kubeconfig says.
    pub fn server(&self) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_string()
    }

    /// kubectl with another token.
    pub fn kubectl_with(&self, token: &str, words: &[&str]) -> Said {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap().replace(&self.token(), token);
        let other = self.home.path().join("other");
        std::fs::write(&other, text).unwrap();
        self.cluster.kubectl_as(&other, words)
    }

    /// What the server's API answers at a path, by this person's token.
    pub fn api(&self, path: &str) -> serde_json::Value {
        let authority = self.cluster.authority();
        let said = run(Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "10", "--cacert"])
            .arg(authority.path())
            .args(["--header", &format!("Authorization: Bearer {}", self.token())])
            .arg(format!("https://atoll.localhost:{}{path}", self.cluster.https())));
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{path}: {error}: {said:?}"))
    }

    /// Writes a file and says where it is.
    pub fn file(&self, name: &str, text: &str) -> String {
        let file = self.home.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// Where the command keeps this person's logins.
    pub fn file_of_logins(&self) -> PathBuf {
        self.home.path().join("atoll").join(format!("{}.json", self.cluster.name))
    }

    /// Applies manifests as this person.
    pub fn apply(&self, manifests: &str) {
        self.try_apply(manifests).ok();
    }

    /// Tries to.
    pub fn try_apply(&self, manifests: &str) -> Said {
        self.kubectl(&["apply", "-f", &self.file("manifests.yaml", manifests)])
    }

    /// What becomes of manifests that this person creates; nothing is stored.
    pub fn tries(&self, manifests: &str) -> Said {
        let file = tempfile::NamedTempFile::new_in(self.home.path()).unwrap();
        std::fs::write(file.path(), manifests).unwrap();
        let path = file.path().display().to_string();
        self.kubectl(&["create", "--validate=false", "--dry-run=server", "-f", &path])
    }

    /// Removes the workspace and the account.
    pub fn leave(&self) {
        if !self.workspace.is_empty() {
            self.atoll(&["workspace", "delete", "--now", &self.workspace]).ok();
        }
        self.atoll(&["account", "delete", &self.account]).ok();
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // A test that failed leaves nothing in the way of the next one.
        if std::thread::panicking() {
            if !self.workspace.is_empty() {
                self.atoll(&["workspace", "delete", "--now", &self.workspace]);
            }
            self.atoll(&["account", "delete", &self.account]);
        }
    }
}
