//! `atoll login` and `atoll kubeconfig`: who somebody is, kept in a file that only
//! they may read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use api::http::{IssuedToken, Login};
use api::names::FRONT_HOST;
use hyper::Method;
use installer::access::{self, Access};
use serde::{Deserialize, Serialize};

use crate::arguments::Common;
use crate::{block_on, server};

/// Who has logged in to a cluster here.
#[derive(Default, Serialize, Deserialize)]
pub struct Logins {
    /// Who commands act as.
    current: Option<String>,
    accounts: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    token: String,
    expires: u64,
}

impl Logins {
    fn file(cluster: &str) -> anyhow::Result<PathBuf> {
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
            .context("neither XDG_CONFIG_HOME nor HOME is set: set one of them")?;
        Ok(folder.join("atoll").join(format!("{cluster}.json")))
    }

    fn load(cluster: &str) -> anyhow::Result<Self> {
        let path = Self::file(cluster)?;
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged: remove it and log in again", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn save(&self, cluster: &str) -> anyhow::Result<()> {
        let path = Self::file(cluster)?;
        let writing = || format!("writing {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(writing)?;
        }
        let partial = path.with_extension("partial");
        let _ = fs::remove_file(&partial);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(writing)?;
        file.write_all(&serde_json::to_vec_pretty(self)?).with_context(writing)?;
        fs::rename(&partial, &path).with_context(writing)
    }
}

/// How the cluster is reached and as whom: the account that is named, else the one
/// that logged in last.
pub fn session(common: &Common, account: Option<&str>) -> anyhow::Result<(Access, String, String)> {
    let access = access::load(&common.state, &common.name)?;
    let mut logins = Logins::load(&common.name)?;
    let account = match (account, logins.current.take()) {
        (Some(account), _) => account.to_owned(),
        (None, Some(current)) => current,
        (None, None) => bail!("nobody is logged in: `atoll login --account NAME`"),
    };
    let Some(kept) = logins.accounts.remove(&account) else {
        bail!("`{account}` is not logged in: `atoll login --account {account}`");
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    if kept.expires <= now {
        bail!("the login of `{account}` has expired: `atoll login --account {account}`");
    }
    Ok((access, account, kept.token))
}

pub fn login(common: &Common, account: &str, from_stdin: bool) -> anyhow::Result<ExitCode> {
    let access = access::load(&common.state, &common.name)?;
    let login = Login { account: account.to_owned(), password: password(account, from_stdin)? };
    let issued: IssuedToken =
        block_on(server::ask(&access, None, Method::POST, "/api/v1/tokens", Some(&login)))?;
    let mut logins = Logins::load(&common.name)?;
    let kept = Kept { token: issued.token, expires: issued.expires };
    logins.accounts.insert(account.to_owned(), kept);
    logins.current = Some(account.to_owned());
    logins.save(&common.name)?;
    println!("You are {account}. `atoll kubeconfig` prints a kubeconfig of your own.");
    Ok(ExitCode::SUCCESS)
}

pub fn logout(common: &Common, account: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut logins = Logins::load(&common.name)?;
    let Some(account) = account.map(str::to_owned).or_else(|| logins.current.clone()) else {
        bail!("nobody is logged in");
    };
    if logins.accounts.remove(&account).is_none() {
        bail!("`{account}` is not logged in");
    }
    logins.current = logins.accounts.keys().next().cloned();
    logins.save(&common.name)?;
    println!("{account} is no longer logged in here.");
    Ok(ExitCode::SUCCESS)
}

/// Reads a password: from a terminal without showing it, else one line.
pub fn password(account: &str, from_stdin: bool) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !from_stdin && !stdin.is_terminal() {
        bail!("there is no terminal to ask for the password of {account} on: give --password-stdin");
    }
    let mut line = String::new();
    if from_stdin {
        stdin.lock().read_line(&mut line).context("reading the password")?;
    } else {
        eprint!("Password of {account}: ");
        let before = nix::sys::termios::tcgetattr(&stdin).context("reading the terminal's settings")?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(nix::sys::termios::LocalFlags::ECHO);
        nix::sys::termios::tcsetattr(&stdin, nix::sys::termios::SetArg::TCSAFLUSH, &hidden)?;
        let read = stdin.lock().read_line(&mut line);
        nix::sys::termios::tcsetattr(&stdin, nix::sys::termios::SetArg::TCSAFLUSH, &before)?;
        eprintln!();
        read.context("reading the password")?;
    }
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        bail!("the password is empty");
    }
    Ok(password)
}

/// A kubeconfig for an account, through front.
pub fn kubeconfig(common: &Common, account: Option<&str>) -> anyhow::Result<ExitCode> {
    let (access, account, token) = session(common, account)?;
    let value = kubeconfig_value(&common.name, &access, &account, &token);
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(ExitCode::SUCCESS)
}

/// Kubernetes reads JSON where it reads YAML.
pub fn kubeconfig_value(cluster: &str, access: &Access, account: &str, token: &str) -> serde_json::Value {
    use k8s_openapi::ByteString;
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": {
            "server": format!("https://127.0.0.1:{}", access.front),
            // Not every program resolves names below localhost.
            "tls-server-name": FRONT_HOST,
            "certificate-authority-data": ByteString(access.authority.clone().into_bytes()),
        } }],
        "users": [{ "name": account, "user": { "token": token } }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": account } }],
        "current-context": cluster,
    })
}

/// A client for the Kubernetes API with the account's own rights.
pub async fn client(common: &Common, account: Option<&str>) -> anyhow::Result<(kube::Client, Access)> {
    let (access, account, token) = session(common, account)?;
    let value = kubeconfig_value(&common.name, &access, &account, &token);
    let config: kube::config::Kubeconfig = serde_json::from_value(value)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
    Ok((kube::Client::try_from(config)?, access))
}
