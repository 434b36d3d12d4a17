//! Kubernetes on the nodes: kubeadm, the files it needs, and the kubeconfigs
//! that come out of it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::manifest_values;
use crate::image::container_images;
use crate::kubeadm::{self, Limits};
use crate::local::node;
use crate::local::process::Process;
use crate::progress::Progress;
use crate::record::{Directory, Record, write_atomically};
use crate::{Error, Result, command, manifest};

/// A path in a node, as the host sees it.
fn in_node(process: Process, path: &str) -> PathBuf {
    Path::new(&format!("/proc/{}/root", process.pid)).join(path.trim_start_matches('/'))
}

/// The manifests in a folder of the cluster image, rendered, by name.
/// `authority` is the certificate of the cluster's authority, where it is known.
pub fn manifests(record: &Record, folder: &str, authority: Option<&str>) -> Result<Vec<(String, String)>> {
    let mut values = manifest_values(record);
    values.extend(authority.map(|pem| ("AUTHORITY".to_string(), BASE64.encode(pem))));
    let images = container_images(&record.layers)?
        .into_iter()
        .map(|image| (manifest::image_path(&image.name).to_string(), image.name))
        .collect();
    let mut found = std::collections::BTreeMap::new();
    for layer in &record.layers {
        let directory = layer.join(folder);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.map_err(Error::file("reading", &directory))?.path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(Error::file("reading", &path))?;
            // A file of a higher layer takes the place of a lower one's.
            found.insert(name.clone(), manifest::render(&name, &text, &values, &images)?);
        }
    }
    Ok(found.into_iter().collect())
}

/// Makes the control plane on the first node.
pub fn init(
    directory: &Directory,
    record: &Record,
    process: Process,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<()> {
    for (name, text) in manifests(record, "manifests/static", None)? {
        let path = in_node(process, "/etc/kubernetes/manifests").join(name);
        write_atomically(&path, text.as_bytes(), 0o600)?;
    }
    let configuration = kubeadm::init_configuration(&record.name, &record.node(0), record.address(0), limits);
    write_atomically(&in_node(process, "/etc/kubernetes/kubeadm.yaml"), configuration.as_bytes(), 0o600)?;
    let log = directory.0.join("kubeadm.log");
    run_kubeadm(
        process,
        &["init", "--config=/etc/kubernetes/kubeadm.yaml", "--skip-token-print"],
        &log,
        progress,
    )
}

/// Runs kubeadm in a node, with each of its lines as progress and all of them
/// in a log.
fn run_kubeadm(process: Process, words: &[&str], log: &Path, progress: &dyn Progress) -> Result<()> {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    let mut file = fs::File::create(log).map_err(Error::file("creating", log))?;
    let errors = file.try_clone().map_err(Error::file("creating", log))?;
    let failed = |reason: String| Error::Command { command: format!("kubeadm {}", words[0]), reason };
    let mut child = node::inside(process, "kubeadm")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            if line.starts_with('[') {
                progress.update(&line, None, None);
            }
            writeln!(file, "{line}").map_err(Error::file("writing", log))?;
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let complaint = said
        .lines()
        .find(|line| line.contains("[ERROR") || line.starts_with("error"))
        .or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or_default()
        .trim();
    Err(failed(format!("{complaint} (all of it in {})", log.display())))
}

/// Joins a further node, by a token that is good for this alone.
pub fn join(record: &Record, first: Process, process: Process, index: u8) -> Result<()> {
    let token = command::run(node::inside(first, "kubeadm").args([
        "--kubeconfig=/etc/kubernetes/admin.conf",
        "token",
        "create",
        "--ttl=10m",
        "--print-join-command",
    ]))?;
    let words: Vec<&str> = token.split_whitespace().collect();
    let after = |flag: &str| {
        words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied().ok_or_else(
            || Error::Command {
                command: "kubeadm token create".into(),
                reason: format!("its answer has no {flag}"),
            },
        )
    };
    let configuration = kubeadm::join_configuration(
        &record.node(index),
        record.address(index),
        record.address(0),
        after("--token")?,
        after("--discovery-token-ca-cert-hash")?,
    );
    write_atomically(&in_node(process, "/etc/kubernetes/kubeadm.yaml"), configuration.as_bytes(), 0o600)?;
    command::run(node::inside(process, "kubeadm").args(["join", "--config=/etc/kubernetes/kubeadm.yaml"]))
        .map(|_| ())
}

/// The kubeconfig by which `atoll` itself reaches the API, over the nodes'
/// network rather than through the forwarder.
pub fn direct_kubeconfig(directory: &Directory) -> PathBuf {
    directory.0.join("direct.conf")
}

/// Writes the administrator's kubeconfig, for this machine's loopback and for
/// the nodes' network.
pub fn write_kubeconfigs(directory: &Directory, record: &Record, first: Process) -> Result<()> {
    let path = in_node(first, "/etc/kubernetes/admin.conf");
    let text = fs::read_to_string(&path).map_err(Error::file("reading", &path))?;
    write_atomically(&direct_kubeconfig(directory), text.as_bytes(), 0o600)?;
    let inside = format!("https://{}:6443", record.address(0));
    let outside = format!("https://127.0.0.1:{}", record.ports.api);
    write_atomically(&directory.kubeconfig(), text.replace(&inside, &outside).as_bytes(), 0o600)
}
