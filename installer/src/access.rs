//! What everybody on this machine may know of a cluster: how it is reached, and
//! whose certificates to believe. It lies beside the cluster's directory, which
//! only root may look into.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::{Record, write_atomically};
use crate::{Error, Result};

/// How a cluster is reached on 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The port of the desktop and of apps.
    pub https: u16,
    /// The port of everybody's Kubernetes API.
    pub front: u16,
    /// The certificate of the cluster's authority, in PEM.
    pub authority: String,
}

fn file(state: &Path, name: &str) -> PathBuf {
    state.join(format!("{name}.access.json"))
}

/// Writes it down.
pub fn save(state: &Path, record: &Record, authority: &str) -> Result<()> {
    let access =
        Access { https: record.ports.https, front: record.ports.front, authority: authority.to_owned() };
    let path = file(state, &record.name);
    let text =
        serde_json::to_vec_pretty(&access).map_err(|source| Error::State { path: path.clone(), source })?;
    write_atomically(&path, &text, 0o644)
}

/// Reads what [`save`] wrote.
pub fn load(state: &Path, name: &str) -> Result<Access> {
    crate::record::check_name(name)?;
    let path = file(state, name);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|source| Error::State { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoCluster(name.to_owned())),
        Err(error) => Err(Error::file("reading", path)(error)),
    }
}

/// Removes it.
pub fn remove(state: &Path, name: &str) -> Result<()> {
    let path = file(state, name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}
