//! A node's root: an overlay over the cluster image, and what is mounted in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::cgroup::Hierarchy;
use super::init::NodeConfig;
use crate::{Error, Result};

/// Devices of the machine that a node sees. kubelet reads the kernel's log, the
/// rest serves containers that ask for it.
const DEVICES: [&str; 11] =
    ["null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "kvm", "loop-control", "net"];

/// Settings of the whole machine that kubelet insists on. A node shows it the
/// expected value and leaves the machine's own alone.
const SHADOWED: [(&str, &str); 5] = [
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What a node keeps in its data directory rather than in the overlay:
/// containerd's snapshots can't lie on an overlay, and the rest is large.
const DATA: [&str; 5] = ["var/lib/containerd", "var/lib/kubelet", "var/lib/etcd", "var/lib/atoll", "var/log"];

/// A mount with the usual arguments.
fn attach(source: &Path, target: &Path, kind: Option<&str>, flags: MsFlags, data: &str) -> Result<()> {
    fs::create_dir_all(target).map_err(Error::file("creating", target))?;
    let data = (!data.is_empty()).then_some(data);
    mount(Some(source), target, kind, flags, data).map_err(Error::system(format!(
        "mounting {} on {}",
        source.display(),
        target.display()
    )))
}

/// Shows a file or directory of this machine at another place.
fn bind(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        return attach(source, target, None, MsFlags::MS_BIND | MsFlags::MS_REC, "");
    }
    if !target.exists() {
        fs::write(target, "").map_err(Error::file("creating", target))?;
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::system(format!(
        "mounting {} on {}",
        source.display(),
        target.display()
    )))
}

/// Makes the node's root and goes there; the caller is alone in its mount and
/// cgroup namespaces.
pub fn enter_root(config: &NodeConfig) -> Result<()> {
    // What happens here must not reach the machine's own mounts.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(Error::system("making this node's mounts its own"))?;

    let root = config.directory.join("root");
    let (upper, work) = (config.directory.join("upper"), config.directory.join("work"));
    for directory in [&root, &upper, &work] {
        fs::create_dir_all(directory).map_err(Error::file("creating", directory))?;
    }
    let lower = config
        .layers
        .iter()
        .rev()
        .map(|layer| layer.join("node"))
        .filter(|layer| layer.is_dir())
        .map(|layer| layer.display().to_string())
        .collect::<Vec<_>>()
        .join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    attach(Path::new("overlay"), &root, Some("overlay"), MsFlags::empty(), &options)?;

    attach(Path::new("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), "")?;
    attach(Path::new("sysfs"), &root.join("sys"), Some("sysfs"), MsFlags::empty(), "")?;
    devices(&root)?;
    attach(Path::new("run"), &root.join("run"), Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    attach(Path::new("tmp"), &root.join("tmp"), Some("tmpfs"), MsFlags::empty(), "mode=1777")?;
    for part in DATA {
        let source = config.directory.join("data").join(Path::new(part).file_name().unwrap_or_default());
        fs::create_dir_all(&source).map_err(Error::file("creating", &source))?;
        attach(&source, &root.join(part), None, MsFlags::MS_BIND, "")?;
    }
    for (index, layer) in config.layers.iter().enumerate() {
        let images = layer.join("images");
        if images.is_dir() {
            attach(&images, &root.join(format!("run/atoll/images/{index}")), None, MsFlags::MS_BIND, "")?;
        }
    }
    let modules = Path::new("/lib/modules");
    if modules.is_dir() {
        attach(modules, &root.join("lib/modules"), None, MsFlags::MS_BIND, "")?;
    }
    cgroups(&root, &config.cgroups)?;
    shadow_settings(&root)?;
    // Absent on kernels without it, as `atoll doctor` says.
    let _ = attach(Path::new("bpf"), &root.join("sys/fs/bpf"), Some("bpf"), MsFlags::empty(), "");

    // The new root over the old one, and the old one away.
    std::env::set_current_dir(&root).map_err(Error::file("entering", &root))?;
    nix::unistd::pivot_root(".", ".").map_err(Error::system("changing to the node's root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::system("leaving the machine's root"))?;
    std::env::set_current_dir("/").map_err(Error::file("entering", "/"))?;
    // kubelet and its containers hand mounts to each other.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .map_err(Error::system("sharing this node's mounts with its containers"))
}

fn devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    attach(Path::new("dev"), &dev, Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    for device in DEVICES {
        let source = Path::new("/dev").join(device);
        if source.exists() {
            bind(&source, &dev.join(device))?;
        }
    }
    let terminals = "newinstance,ptmxmode=0666,mode=620";
    attach(Path::new("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::empty(), terminals)?;
    attach(Path::new("shm"), &dev.join("shm"), Some("tmpfs"), MsFlags::empty(), "mode=1777")?;
    attach(Path::new("mqueue"), &dev.join("mqueue"), Some("mqueue"), MsFlags::empty(), "")?;
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (target, name) in links {
        let link = dev.join(name);
        symlink(target, &link).map_err(Error::file("linking", link))?;
    }
    Ok(())
}

fn cgroups(root: &Path, hierarchies: &[Hierarchy]) -> Result<()> {
    let top = root.join("sys/fs/cgroup");
    if super::cgroup::is_version_2(hierarchies) {
        return attach(Path::new("cgroup2"), &top, Some("cgroup2"), MsFlags::empty(), "");
    }
    attach(Path::new("cgroup"), &top, Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    for hierarchy in hierarchies {
        let target = top.join(&hierarchy.directory);
        attach(Path::new("cgroup"), &target, Some(&hierarchy.kind), MsFlags::empty(), &hierarchy.options)?;
    }
    Ok(())
}

fn shadow_settings(root: &Path) -> Result<()> {
    let directory = root.join("run/atoll/settings");
    fs::create_dir_all(&directory).map_err(Error::file("creating", &directory))?;
    for (setting, value) in SHADOWED {
        let shadow: PathBuf = directory.join(setting.replace('/', "."));
        fs::write(&shadow, format!("{value}\n")).map_err(Error::file("writing", &shadow))?;
        let target = root.join("proc/sys").join(setting);
        if target.exists() {
            bind(&shadow, &target)?;
        }
    }
    Ok(())
}
