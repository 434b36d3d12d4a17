//! `atoll down`: everything of a cluster goes, and the machine is as before.

use std::fs;

use super::Place;
use super::up::remove_directory;
use crate::image::Store;
use crate::local::{cgroup, forward, network, node};
use crate::progress::Progress;
use crate::{Error, Result};

/// Removes a cluster, however far it came.
pub fn down(place: &Place, progress: &dyn Progress) -> Result<()> {
    crate::record::check_name(&place.name)?;
    let directory = place.directory();
    if !directory.0.exists() {
        return Err(Error::NoCluster(place.name.clone()));
    }
    let lock = directory.lock()?;
    // One that is damaged, or was never written, must not keep the rest from
    // being removed: everything else is found by the cluster's name.
    let record = directory.load().unwrap_or_else(|error| {
        tracing::warn!(%error, "removing the cluster by its name alone");
        None
    });

    progress.step("ending nodes");
    forward::stop(&directory.0)?;
    let hierarchies = cgroup::hierarchies()?;
    let nodes = directory.0.join("nodes");
    if let Ok(entries) = fs::read_dir(&nodes) {
        for entry in entries {
            let entry = entry.map_err(Error::file("reading", &nodes))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            progress.update(&name, None, None);
            node::stop(&entry.path())?;
            cgroup::remove(&hierarchies, &place.name, &name)?;
        }
    }
    progress.step("removing the network");
    network::remove(&place.state, &place.name)?;
    progress.step("removing files");
    if let Some(record) = &record {
        Store::open(&record.cache)?.release(&place.name)?;
    }
    crate::access::remove(&place.state, &place.name)?;
    // The record goes last: what was not removed can be found again by it.
    remove_directory(&nodes)?;
    remove_directory(&directory.0)?;
    drop(lock);
    // Ours alone when no other cluster is left in it.
    let _ = fs::remove_dir(&place.state);
    Ok(())
}
