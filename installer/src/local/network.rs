//! The nodes' network on this machine: one bridge per cluster, a link to each
//! node, masquerading so that pods reach the internet when the machine does, and
//! a rule that keeps the cluster's own addresses from leaving it.
//!
//! Settings of the machine that this needs are written down before they are
//! changed and put back when the last cluster goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::init::NodeConfig;
use crate::kubeadm::{POD_CIDR, SERVICE_CIDR};
use crate::record::{self, Record};
use crate::{Error, Result, command};

/// Settings that clusters need, as paths below `/proc/sys`, with the least
/// value that will do.
const SETTINGS: [(&str, u64); 3] = [
    ("net/ipv4/ip_forward", 1),
    ("fs/inotify/max_user_instances", 1024),
    ("fs/inotify/max_user_watches", 131_072),
];

/// Makes the cluster's bridge and masquerading, if they are not there.
pub fn ensure(state: &Path, record: &Record) -> Result<()> {
    raise_settings(state)?;
    let bridge = record.short("");
    if !Path::new("/sys/class/net").join(&bridge).exists() {
        command::call("ip", ["link", "add", &bridge, "type", "bridge"])?;
    }
    let address = format!("{}/24", record.gateway());
    let shown = command::call("ip", ["-o", "-4", "address", "show", "dev", &bridge])?;
    if !shown.contains(&address) {
        command::call("ip", ["address", "add", &address, "dev", &bridge])?;
    }
    command::call("ip", ["link", "set", &bridge, "up"])?;

    // What is meant for a service before kube-proxy knows it, or for a pod that
    // is gone, must not reach whoever answers outside: a connection made there
    // would stay there.
    let rules = format!(
        "add table ip {bridge}\ndelete table ip {bridge}\ntable ip {bridge} {{\n\
         chain postrouting {{ type nat hook postrouting priority srcnat;\n\
         ip saddr 10.213.{n}.0/24 ip daddr != 10.213.{n}.0/24 masquerade; }}\n\
         chain forward {{ type filter hook forward priority filter;\n\
         iifname {bridge} oifname != {bridge} ip daddr {{ {SERVICE_CIDR}, {POD_CIDR} }} reject; }}\n}}\n",
        n = record.subnet
    );
    nft(&rules)
}

/// Removes the cluster's bridge and masquerading, and puts the machine's
/// settings back when no other cluster needs them.
pub fn remove(state: &Path, name: &str) -> Result<()> {
    let bridge = record::short(name, "");
    nft(&format!("add table ip {bridge}\ndelete table ip {bridge}\n"))?;
    // The bridge and each node's link: the kernel may keep a link long after the
    // node's network is gone.
    let links = Path::new("/sys/class/net");
    for link in fs::read_dir(links).map_err(Error::file("reading", links))?.flatten() {
        let link = link.file_name().to_string_lossy().into_owned();
        if link.starts_with(&bridge) {
            delete_link(&link)?;
        }
    }
    let others = fs::read_dir(state)
        .map_err(Error::file("reading", state))?
        .flatten()
        .any(|entry| entry.file_name() != *name && entry.path().join("cluster.json").exists());
    if others { Ok(()) } else { restore_settings(state) }
}

/// Removes a link; one that the kernel has removed meanwhile, with the network at
/// its other end, is removed as well.
fn delete_link(link: &str) -> Result<()> {
    match command::call("ip", ["link", "delete", link]) {
        Err(_) if !Path::new("/sys/class/net").join(link).exists() => Ok(()),
        other => other.map(drop),
    }
}

/// Gives a node its link, into the network namespace of process `pid`.
pub fn connect(config: &NodeConfig, pid: u32) -> Result<()> {
    if Path::new("/sys/class/net").join(&config.link).exists() {
        delete_link(&config.link)?;
    }
    let pid = pid.to_string();
    command::call(
        "ip",
        ["link", "add", &config.link, "type", "veth", "peer", "name", "eth0", "netns", &pid],
    )?;
    command::call("ip", ["link", "set", &config.link, "master", &config.bridge, "up"])?;
    let inside = format!(
        "link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
        config.address, config.gateway
    );
    let file = config.directory.join("network.batch");
    fs::write(&file, inside).map_err(Error::file("writing", &file))?;
    let file = file.display().to_string();
    command::call("nsenter", ["--target", &pid, "--net", "ip", "-batch", &file])?;
    Ok(())
}

/// The subnet numbers that this machine's addresses and routes already use.
pub fn used_subnets() -> Result<Vec<u8>> {
    let shown = command::call("ip", ["-o", "-4", "route", "show", "table", "all"])?;
    Ok(parse_subnets(&shown))
}

fn parse_subnets(routes: &str) -> Vec<u8> {
    routes
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("10.213."))
        .filter_map(|rest| rest.split('.').next()?.parse().ok())
        .collect()
}

fn nft(rules: &str) -> Result<()> {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().map_err(Error::file("creating", "a temporary file"))?;
    file.write_all(rules.as_bytes()).map_err(Error::file("writing", file.path()))?;
    command::call("nft", [std::ffi::OsStr::new("-f"), file.path().as_os_str()]).map(|_| ())
}

fn settings_file(state: &Path) -> PathBuf {
    state.join("machine-settings.json")
}

fn raise_settings(state: &Path) -> Result<()> {
    let file = settings_file(state);
    let mut before: BTreeMap<String, String> = match fs::read(&file) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|source| Error::State { path: file.clone(), source })?
        }
        Err(_) => BTreeMap::new(),
    };
    for (setting, least) in SETTINGS {
        let path = Path::new("/proc/sys").join(setting);
        let Ok(value) = fs::read_to_string(&path) else { continue };
        if value.trim().parse::<u64>().is_ok_and(|value| value >= least) {
            continue;
        }
        before.entry(setting.into()).or_insert_with(|| value.trim().into());
        let text = serde_json::to_vec_pretty(&before)
            .map_err(|source| Error::State { path: file.clone(), source })?;
        record::write_atomically(&file, &text, 0o600)?;
        fs::write(&path, least.to_string()).map_err(Error::file("writing", path))?;
    }
    Ok(())
}

fn restore_settings(state: &Path) -> Result<()> {
    let file = settings_file(state);
    let Ok(text) = fs::read(&file) else { return Ok(()) };
    let before: BTreeMap<String, String> =
        serde_json::from_slice(&text).map_err(|source| Error::State { path: file.clone(), source })?;
    for (setting, value) in before {
        let path = Path::new("/proc/sys").join(setting);
        fs::write(&path, value).map_err(Error::file("writing", path))?;
    }
    fs::remove_file(&file).map_err(Error::file("removing", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_in_use_are_seen() {
        let routes = "default via 10.0.0.1 dev eth0\n10.213.4.0/24 dev atl1 proto kernel\n\
                      local 10.213.7.1 dev atl2 table local\n10.21.3.0/24 dev x";
        assert_eq!(parse_subnets(routes), [4, 7]);
    }
}
