//! A node's place in the machine's cgroups, in version 1 and in version 2.
//!
//! Only directories of our own are made and removed; existing mounts are left
//! as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// One cgroup hierarchy of this machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory below `/sys/fs/cgroup` where a node sees it; empty for the
    /// single hierarchy of version 2.
    pub directory: String,
    /// `cgroup` or `cgroup2`.
    pub kind: String,
    /// Mount options that choose the controllers, for version 1.
    pub options: String,
}

/// The hierarchies of this machine, as `/proc/self/mountinfo` lists them.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let path = "/proc/self/mountinfo";
    Ok(parse(&fs::read_to_string(path).map_err(Error::file("reading", path))?))
}

/// Reads the cgroup mounts below `/sys/fs/cgroup` out of a mountinfo file.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mount = PathBuf::from(before.split(' ').nth(4).unwrap_or_default());
        let mut fields = after.split(' ');
        let kind = fields.next().unwrap_or_default();
        let (_source, options) = (fields.next(), fields.next().unwrap_or_default());
        let Ok(directory) = mount.strip_prefix(ROOT) else { continue };
        if kind != "cgroup" && kind != "cgroup2" {
            continue;
        }
        // The controllers are what is left of the superblock's options.
        let options = match kind {
            "cgroup" => options
                .split(',')
                .filter(|option| {
                    !matches!(*option, "rw" | "ro" | "relatime" | "xattr" | "clone_children")
                        && !option.starts_with("release_agent=")
                })
                .collect::<Vec<_>>()
                .join(","),
            _ => String::new(),
        };
        let options = match options.strip_prefix("name=") {
            Some(_) => format!("none,{options}"),
            None => options,
        };
        let entry = Hierarchy {
            directory: directory.to_string_lossy().into_owned(),
            kind: kind.into(),
            options,
            mount,
        };
        // A later mount on the same place hides the earlier one.
        found.retain(|other| other.mount != entry.mount);
        found.push(entry);
    }
    found
}

/// Whether the machine has the unified hierarchy alone.
pub fn is_version_2(hierarchies: &[Hierarchy]) -> bool {
    hierarchies.len() == 1 && hierarchies[0].kind == "cgroup2"
}

/// The node's cgroup in each hierarchy, relative to its mount.
pub fn relative(cluster: &str, node: &str) -> PathBuf {
    Path::new("atoll").join(cluster).join(node)
}

/// Makes the node's cgroups and moves the calling process into them.
pub fn enter(hierarchies: &[Hierarchy], cluster: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies {
        let mut directory = hierarchy.mount.clone();
        for part in &relative(cluster, node) {
            if hierarchy.kind == "cgroup2" {
                delegate(&directory);
            }
            let parent = directory.clone();
            directory.push(part);
            if !directory.exists() {
                fs::create_dir(&directory).map_err(Error::file("creating", &directory))?;
            }
            // A cpuset starts empty and holds no process until it is filled.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if hierarchy.kind == "cgroup" && parent.join(file).exists() {
                    let value =
                        fs::read(parent.join(file)).map_err(Error::file("reading", parent.join(file)))?;
                    fs::write(directory.join(file), value)
                        .map_err(Error::file("writing", directory.join(file)))?;
                }
            }
        }
        let file = directory.join("cgroup.procs");
        fs::write(&file, "0").map_err(Error::file("writing", &file))?;
    }
    Ok(())
}

/// Hands every controller of a version 2 cgroup on to its children. One that
/// can't be handed on is simply not there for them, as `atoll doctor` says.
pub fn delegate(directory: &Path) {
    let Ok(controllers) = fs::read_to_string(directory.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes the node's cgroups and, when it was the last, the cluster's and our
/// own; waits a moment for processes that are just ending.
pub fn remove(hierarchies: &[Hierarchy], cluster: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies {
        let top = hierarchy.mount.join(relative(cluster, node));
        let deadline = Instant::now() + Duration::from_secs(5);
        while top.exists() {
            match remove_tree(&top) {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(Error::file("removing", top)(error)),
            }
        }
        // Both fail, rightly, while another node or cluster is in there.
        let _ = fs::remove_dir(hierarchy.mount.join("atoll").join(cluster));
        let _ = fs::remove_dir(hierarchy.mount.join("atoll"));
    }
    Ok(())
}

/// Removes a cgroup and those below it, deepest first.
fn remove_tree(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_beside_an_empty_version_2() {
        let text = "30 29 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             32 30 0:28 / /sys/fs/cgroup/net_cls,net_prio rw - cgroup cgroup rw,net_cls,net_prio\n\
             33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse(text);
        let seen: Vec<_> =
            found.iter().map(|h| (h.directory.as_str(), h.kind.as_str(), h.options.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("cpu", "cgroup", "cpu"),
                ("net_cls,net_prio", "cgroup", "net_cls,net_prio"),
                ("systemd", "cgroup", "none,name=systemd"),
                ("unified", "cgroup2", ""),
            ]
        );
        assert!(!is_version_2(&found));
    }

    #[test]
    fn version_2_alone() {
        let found = parse("25 24 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(is_version_2(&found));
        assert_eq!(found[0].directory, "");
    }
}
