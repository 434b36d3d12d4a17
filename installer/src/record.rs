//! What is written down about a cluster on this machine.
//!
//! The record is written before anything else is changed, so that `down` can
//! remove what an interrupted `up` left behind.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where clusters are kept unless a flag says otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/atoll";

/// A cluster on this machine, as `cluster.json` in its directory holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The cluster's name, a DNS label.
    pub name: String,
    /// The cache folder whose store holds the image.
    pub cache: PathBuf,
    /// The digest of the cluster image it was made from.
    pub image: String,
    /// The image's layers, unpacked, lowest first.
    pub layers: Vec<PathBuf>,
    /// The third number of the nodes' network 10.213.x.0/24.
    pub subnet: u8,
    /// How many nodes it has.
    pub nodes: u8,
    /// The ports on this machine's loopback address.
    pub ports: Ports,
    /// Whether kubeadm has made the control plane, to its end.
    #[serde(default)]
    pub initialized: bool,
    /// The nodes that have joined, the first one included.
    #[serde(default)]
    pub joined: Vec<String>,
}

/// Ports on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The Kubernetes API, the administrator's way.
    pub api: u16,
    /// The Kubernetes API, everybody's way: front.
    #[serde(default)]
    pub front: u16,
    /// The gateway's clear text listener.
    pub http: u16,
    /// The gateway's TLS listener.
    pub https: u16,
}

impl Record {
    /// The address of the nodes' gateway: this machine's end of their bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, 1)
    }

    /// The address of node `index`, counted from 0.
    pub fn address(&self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, 2 + index)
    }

    /// The addresses that Services of type LoadBalancer get: first and last.
    pub fn pool(&self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::new(10, 213, self.subnet, 200), Ipv4Addr::new(10, 213, self.subnet, 250))
    }

    /// The name of node `index`, counted from 0.
    pub fn node(&self, index: u8) -> String {
        format!("{}-{}", self.name, index + 1)
    }

    /// The names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        (0..self.nodes).map(|index| self.node(index)).collect()
    }

    /// A name for an interface or a table that is this cluster's alone and fits
    /// into the kernel's 15 characters.
    pub fn short(&self, suffix: &str) -> String {
        short(&self.name, suffix)
    }
}

/// [`Record::short`], for a cluster of which only the name is known.
pub fn short(name: &str, suffix: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(name.as_bytes());
    format!("atl{:02x}{:02x}{:02x}{suffix}", hash[0], hash[1], hash[2])
}

/// The directory of one cluster.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// The directory of cluster `name` below `state`.
    pub fn new(state: &Path, name: &str) -> Self {
        Self(state.join(name))
    }

    /// The directory of one node.
    pub fn node(&self, node: &str) -> PathBuf {
        self.0.join("nodes").join(node)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("admin.conf")
    }

    fn record(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// Reads the record; `None` when there is no such cluster.
    pub fn load(&self) -> Result<Option<Record>> {
        let path = self.record();
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::State { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("reading", path)(error)),
        }
    }

    /// Writes the record, whole or not at all.
    pub fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec_pretty(record)
            .map_err(|source| Error::State { path: self.record(), source })?;
        write_atomically(&self.record(), &text, 0o600)
    }

    /// Takes the lock that keeps two commands from changing one cluster at once;
    /// it is held until the returned file is dropped.
    pub fn lock(&self) -> Result<nix::fcntl::Flock<fs::File>> {
        fs::create_dir_all(&self.0).map_err(Error::file("creating", &self.0))?;
        let path = self.0.join("lock");
        let file = fs::File::create(&path).map_err(Error::file("creating", &path))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
            Error::Input(format!(
                "another atoll command is working on this cluster: wait for it, or end it (it holds {})",
                path.display()
            ))
        })
    }
}

/// Writes a file whole or not at all.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("creating", parent))?;
    }
    let partial = path.with_extension("partial");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&partial)
        .map_err(Error::file("creating", &partial))?;
    file.write_all(content).map_err(Error::file("writing", &partial))?;
    file.sync_all().map_err(Error::file("writing", &partial))?;
    fs::rename(&partial, path).map_err(Error::file("writing", path))
}

/// All clusters below `state`, by name. A record that can't be read is passed
/// over: it must not stand in another cluster's way.
pub fn clusters(state: &Path) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(Error::file("reading", state)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::file("reading", state))?;
        if !entry.path().is_dir() {
            continue;
        }
        match Directory(entry.path()).load() {
            Ok(Some(record)) => found.push(record),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "passing over a cluster"),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Takes the lock under which a cluster's ports and addresses are chosen and noted: of
/// two that come up at once the second sees what the first has. It is held until the
/// returned file is dropped.
pub fn lock_choices(state: &Path) -> Result<nix::fcntl::Flock<fs::File>> {
    let folder = fs::File::open(state).map_err(Error::file("opening", state))?;
    nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive)
        .map_err(|(_, error)| Error::file("locking", state)(error.into()))
}

/// Checks that a cluster's name is a DNS label, short enough that nodes and
/// hosts can be named after it.
pub fn check_name(name: &str) -> Result<()> {
    let label = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if label && (1..=40).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::Input(format!(
        "`{name}` can't be a cluster's name: use 1 to 40 of a-z, 0-9 and -, with no - at either end"
    )))
}

/// The first subnet number that neither another cluster nor the machine uses.
pub fn free_subnet(used: &[u8]) -> Result<u8> {
    (0..=254).find(|number| !used.contains(number)).ok_or_else(|| {
        Error::Input("all 255 networks of 10.213.0.0/16 are in use: take a cluster down first".into())
    })
}

/// A record for tests.
#[cfg(test)]
pub(crate) fn sample(name: &str) -> Record {
    Record {
        name: name.into(),
        cache: PathBuf::from("/cache"),
        image: "sha256:0".into(),
        layers: vec![],
        subnet: 3,
        nodes: 2,
        ports: Ports { api: 6443, front: 7443, http: 80, https: 443 },
        initialized: false,
        joined: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample as record;

    #[test]
    fn names_that_are_no_labels_are_refused() {
        for good in ["a", "atoll", "a-1", "0x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "ä", "a/b", "..", &"x".repeat(41)] {
            let message = check_name(bad).unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("a-z"), "{message}");
        }
    }

    #[test]
    fn a_record_survives_being_written() {
        let state = tempfile::tempdir().unwrap();
        let directory = Directory::new(state.path(), "one");
        assert_eq!(directory.load().unwrap(), None);
        directory.save(&record("one")).unwrap();
        assert_eq!(directory.load().unwrap(), Some(record("one")));
        fs::write(state.path().join("machine-settings.json"), "{}").unwrap();
        assert_eq!(clusters(state.path()).unwrap().len(), 1);
        fs::write(directory.record(), "{").unwrap();
        assert!(directory.load().unwrap_err().to_string().contains("atoll down"));
    }

    #[test]
    fn one_command_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let directory = Directory::new(state.path(), "one");
        let held = directory.lock().unwrap();
        assert!(directory.lock().unwrap_err().to_string().contains("another atoll command"));
        drop(held);
        directory.lock().unwrap();
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let name = record(&"x".repeat(40)).short("n255");
        assert!(name.len() <= 15, "{name}");
        assert_ne!(record("a").short(""), record("b").short(""));
    }

    #[test]
    fn subnets_are_not_shared() {
        assert_eq!(free_subnet(&[0, 1, 3]).unwrap(), 2);
        assert!(free_subnet(&(0..=254).collect::<Vec<_>>()).is_err());
    }
}
