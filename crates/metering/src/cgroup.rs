//! A pod's cgroups: processor time and memory, for all its containers together,
//! also those that have ended.
//!
//! Kernel documentation: `admin-guide/cgroup-v1/{cpuacct,memory}.rst` and
//! `admin-guide/cgroup-v2.rst`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where kubelet keeps its pods' cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// One tree for each controller.
    V1 {
        /// Processor time.
        cpuacct: PathBuf,
        /// Memory.
        memory: PathBuf,
    },
    /// One tree for all.
    V2(PathBuf),
}

impl Hierarchy {
    /// Looks below a node's `/sys/fs/cgroup`.
    pub fn find(root: &Path) -> Option<Self> {
        if root.join("cgroup.controllers").exists() {
            return Some(Self::V2(root.to_path_buf()));
        }
        let tree =
            |names: [&str; 2]| names.map(|name| root.join(name)).into_iter().find(|path| path.is_dir());
        Some(Self::V1 { cpuacct: tree(["cpuacct", "cpu,cpuacct"])?, memory: tree(["memory", "memory"])? })
    }

    /// What a pod has used so far, or nothing when it has no cgroup (any more).
    pub fn usage(&self, uid: &str) -> Option<Usage> {
        match self {
            Self::V1 { cpuacct, memory } => Some(Usage {
                cpu_microseconds: number(&pod(cpuacct, uid)?.join("cpuacct.usage"))? / 1000,
                memory_bytes: working_set(
                    &pod(memory, uid)?,
                    "memory.usage_in_bytes",
                    "total_inactive_file",
                )?,
            }),
            Self::V2(root) => {
                let folder = pod(root, uid)?;
                let stat = fs::read_to_string(folder.join("cpu.stat")).ok()?;
                Some(Usage {
                    cpu_microseconds: field(&stat, "usage_usec")?,
                    memory_bytes: working_set(&folder, "memory.current", "inactive_file")?,
                })
            }
        }
    }
}

/// What a pod's cgroup says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Since the cgroup was made.
    pub cpu_microseconds: u64,
    /// Now, without what the kernel would give back at once: what kubelet calls
    /// the working set.
    pub memory_bytes: u64,
}

/// A pod's folder: kubelet sorts them by quality of service, and the two drivers
/// name them differently.
fn pod(tree: &Path, uid: &str) -> Option<PathBuf> {
    let plain = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];
    let plain = plain.iter().map(|parent| tree.join(parent).join(format!("pod{uid}")));
    let escaped = uid.replace('-', "_");
    let slices = ["", "-burstable", "-besteffort"].map(|class| {
        let parent = match class {
            "" => tree.join("kubepods.slice"),
            class => tree.join(format!("kubepods.slice/kubepods{class}.slice")),
        };
        parent.join(format!("kubepods{class}-pod{escaped}.slice"))
    });
    plain.chain(slices).find(|path| path.is_dir())
}

fn working_set(folder: &Path, usage: &str, inactive: &str) -> Option<u64> {
    let usage = number(&folder.join(usage))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    Some(usage.saturating_sub(field(&stat, inactive)?))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const STAT: &str = "cache 1\ninactive_file 100\ntotal_inactive_file 300\n";

    #[test]
    fn version_1_is_read_under_each_quality_of_service() {
        for class in ["", "burstable/", "besteffort/"] {
            let root = tree(&[
                (&format!("cpuacct/kubepods/{class}podu-1/cpuacct.usage"), "5000999\n"),
                (&format!("memory/kubepods/{class}podu-1/memory.usage_in_bytes"), "1000\n"),
                (&format!("memory/kubepods/{class}podu-1/memory.stat"), STAT),
            ]);
            let hierarchy = Hierarchy::find(root.path()).unwrap();
            let usage = hierarchy.usage("u-1").unwrap();
            assert_eq!(usage, Usage { cpu_microseconds: 5000, memory_bytes: 700 });
            assert_eq!(hierarchy.usage("u-2"), None);
        }
    }

    #[test]
    fn version_2_is_read_under_both_drivers() {
        for folder in [
            "kubepods/burstable/podu-1",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice",
        ] {
            let root = tree(&[
                ("cgroup.controllers", "cpu memory"),
                (&format!("{folder}/cpu.stat"), "usage_usec 77\nuser_usec 7\n"),
                (&format!("{folder}/memory.current"), "500"),
                (&format!("{folder}/memory.stat"), STAT),
            ]);
            let usage = Hierarchy::find(root.path()).unwrap().usage("u-1").unwrap();
            assert_eq!(usage, Usage { cpu_microseconds: 77, memory_bytes: 400 });
        }
    }
}
