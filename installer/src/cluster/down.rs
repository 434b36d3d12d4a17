//! `atoll down`: everything of a cluster goes, and the machine is as before.

use std::fs;

use super::Place;
use super::up::remove_directory;
use crate::image::Store;
use crate::local::{cgroup, forward, network, node};
use crate::progress::Progress;
use crate::{Error, Result};

/// Removes a cluster, however far it came.
pub fn down(place: &Place, store: &Store, progress: &dyn Progress) -> Result<()> {
    crate::record::check_name(&place.name)?;
    let directory = place.directory();
    if !directory.0.exists() {
        return Err(Error::NoCluster(place.name.clone()));
    }
    let lock = directory.lock()?;
    let record = directory.load()?;

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
    if let Some(record) = &record {
        progress.step("removing the network");
        network::remove(&place.state, record)?;
    }
    progress.step("removing files");
    store.release(&place.name)?;
    // The record goes last: what was not removed can be found again by it.
    remove_directory(&nodes)?;
    remove_directory(&directory.0)?;
    drop(lock);
    // Ours alone when no other cluster is left in it.
    let _ = fs::remove_dir(&place.state);
    Ok(())
}
