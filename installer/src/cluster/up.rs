//! `atoll up`: from nothing, or from whatever an earlier one left, to a cluster
//! in which everything is ready.

use std::fs;
use std::time::{Duration, Instant};

use super::{Place, bootstrap};
use crate::image::{Image, Store, container_images};
use crate::kubeadm::{FRONT_ADDRESS, GATEWAY_ADDRESS};
use crate::local::forward::{self, Forwarding};
use crate::local::init::NodeConfig;
use crate::local::process::Process;
use crate::local::{cgroup, network, node};
use crate::machine::Facts;
use crate::progress::Progress;
use crate::record::{self, Ports, Record};
use crate::{Error, Result, apply, authority, manifest, readiness};

/// How long everything may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(300);

/// What `up` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which cluster.
    pub place: Place,
    /// How many nodes; `None` keeps what there is, or one.
    pub nodes: Option<u8>,
    /// The port for https on 127.0.0.1; `None` takes 443 if it is free, else
    /// another.
    pub https_port: Option<u16>,
    /// The port for http, likewise from 80.
    pub http_port: Option<u16>,
    /// The port for the administrator's way to the Kubernetes API, likewise from
    /// 6443.
    pub api_port: Option<u16>,
    /// The port for everybody's way to the Kubernetes API, likewise from 7443.
    pub front_port: Option<u16>,
}

/// What `up` made of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The cluster.
    pub record: Record,
    /// Whether anything had to be made or repaired.
    pub changed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Brings a cluster up, or repairs it, or finds that all is well. `image` is
/// called when a cluster image is needed: for a new cluster only.
pub async fn up(
    options: &Options,
    store: &Store,
    image: impl FnOnce() -> Result<Image>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let started = Instant::now();
    record::check_name(&options.place.name)?;
    if options.nodes.is_some_and(|nodes| nodes == 0 || nodes > 100) {
        return Err(Error::Input("--nodes takes a number from 1 to 100".into()));
    }
    let facts = Facts::read(&options.place.state)?;
    facts.check()?;
    let directory = options.place.directory();

    let mut existing = directory.load()?;
    // Refused before anything is done; which ports it gets is decided further down.
    choose_ports(options, existing.as_ref())?;
    let mut changed = existing.is_none();
    // The image comes before anything is written: without one nothing changes.
    let image = match &existing {
        None => Some(image()?),
        Some(_) => None,
    };
    let layers = match &image {
        Some(image) => {
            progress.step(&format!("unpacking the cluster image {}", image.reference));
            store.unpacked_with(image, progress)?
        }
        None => Vec::new(),
    };
    let _lock = directory.lock()?;
    // Another `up` may have been faster.
    existing = directory.load()?;
    let choosing = record::lock_choices(&options.place.state)?;
    let ports = choose_ports(options, existing.as_ref())?;
    let mut record = match (existing, image) {
        (Some(record), _) => record,
        (None, Some(image)) => {
            let record = new_record(options, store, &image, layers, ports)?;
            store.hold(&image, &record.name)?;
            record
        }
        (None, None) => return Err(Error::NoCluster(options.place.name.clone())),
    };
    if let Some(missing) = record.layers.iter().find(|layer| !layer.exists()) {
        return Err(Error::Machine {
            what: format!("{} is gone, on which cluster {} stands", missing.display(), record.name),
            remedy: "run `atoll down` and `atoll up`".into(),
        });
    }
    let nodes = options.nodes.unwrap_or(record.nodes);
    if nodes < record.nodes {
        return Err(Error::Input(format!(
            "cluster {} has {} nodes; taking nodes away is not possible: use --nodes {} or more",
            record.name, record.nodes, record.nodes
        )));
    }
    changed |= nodes != record.nodes || ports != record.ports;
    record.nodes = nodes;
    record.ports = ports;
    directory.save(&record)?;
    drop(choosing);

    progress.step("starting nodes");
    network::ensure(&options.place.state, &record)?;
    let mut processes = Vec::new();
    for index in 0..record.nodes {
        let config = node_config(options, &record, &facts, index)?;
        progress.update(&format!("node {}", config.name), Some(index.into()), Some(record.nodes.into()));
        let known = record.joined.contains(&config.name);
        let running = node::running(&config.directory).is_some();
        if running && known {
            processes.push(node::start(&config)?);
            continue;
        }
        changed = true;
        if !known {
            // An interrupted first start left half a node: nothing in it is
            // anybody's yet, so it begins afresh.
            node::stop(&config.directory)?;
            remove_directory(&config.directory)?;
            fs::create_dir_all(&config.directory).map_err(Error::file("creating", &config.directory))?;
        }
        processes.push(node::start(&config)?);
    }

    for (index, process) in (0u8..).zip(&processes) {
        let name = record.node(index);
        if record.joined.contains(&name) {
            continue;
        }
        changed = true;
        prepare_node(&record, *process, &name, index, progress)?;
        if index == 0 {
            progress.step("starting Kubernetes");
            bootstrap::init(&directory, &record, *process, &facts.limits(), progress)?;
            record.initialized = true;
        } else {
            progress.step(&format!("joining node {name}"));
            bootstrap::join(&record, processes[0], *process, index)?;
        }
        record.joined.push(name);
        directory.save(&record)?;
    }
    bootstrap::write_kubeconfigs(&directory, &record, processes[0])?;

    progress.step("forwarding ports");
    let node = directory.node(&record.node(0));
    let forwarded = forward::running(&directory.0).is_some();
    forward::ensure(&directory.0, &forwarding(&record, node))?;
    changed |= !forwarded;

    let client = apply::client(&bootstrap::direct_kubeconfig(&directory)).await?;
    wait_for_api(&client, progress).await?;
    progress.step("applying manifests");
    let authority = apply_manifests(&client, &record, progress).await?;
    crate::access::save(&options.place.state, &record, &authority)?;
    progress.step("waiting until everything is ready");
    let before = Instant::now();
    readiness::wait(&client, &record.node_names(), READY_LIMIT, progress).await?;
    changed |= before.elapsed() > Duration::from_secs(2);
    Ok(Outcome { record, changed, took: started.elapsed() })
}

fn new_record(
    options: &Options,
    store: &Store,
    image: &Image,
    layers: Vec<std::path::PathBuf>,
    ports: Ports,
) -> Result<Record> {
    let mut used = network::used_subnets()?;
    used.extend(record::clusters(&options.place.state)?.iter().map(|other| other.subnet));
    Ok(Record {
        name: options.place.name.clone(),
        cache: store.cache().to_path_buf(),
        image: image.digest.to_string(),
        layers,
        subnet: record::free_subnet(&used)?,
        nodes: options.nodes.unwrap_or(1),
        ports,
        initialized: false,
        joined: Vec::new(),
    })
}

/// The ports on 127.0.0.1: those asked for, else those the cluster has, else
/// the usual ones, else any that is free.
fn choose_ports(options: &Options, existing: Option<&Record>) -> Result<Ports> {
    let own = existing.map(|record| record.ports);
    let others = record::clusters(&options.place.state)?;
    let mut taken: Vec<u16> = others
        .iter()
        .filter(|other| other.name != options.place.name)
        .flat_map(|other| [other.ports.https, other.ports.http, other.ports.api, other.ports.front])
        .collect();
    let mut choose = |asked: Option<u16>, own: Option<u16>, usual: [u16; 2], flag: &str| {
        let port = match (asked, own) {
            (Some(port), Some(own)) if port == own => port,
            (Some(0), _) => return Err(Error::Input(format!("{flag} takes a port from 1 to 65535"))),
            (Some(port), _) if !forward::is_free(port) || taken.contains(&port) => {
                return Err(Error::Input(format!(
                    "port {port} on 127.0.0.1 is in use: choose another with {flag}, or leave it out"
                )));
            }
            (Some(port), _) | (None, Some(port)) => port,
            (None, None) => usual
                .into_iter()
                .chain(20_000..20_200)
                .find(|port| !taken.contains(port) && forward::is_free(*port))
                .ok_or_else(|| Error::Input(format!("no port is free: choose one with {flag}")))?,
        };
        taken.push(port);
        Ok(port)
    };
    Ok(Ports {
        https: choose(options.https_port, own.map(|ports| ports.https), [443, 8443], "--https-port")?,
        http: choose(options.http_port, own.map(|ports| ports.http), [80, 8080], "--http-port")?,
        api: choose(options.api_port, own.map(|ports| ports.api), [6443, 16_443], "--api-port")?,
        front: choose(
            options.front_port,
            own.map(|ports| ports.front).filter(|port| *port != 0),
            [7443, 17_443],
            "--front-port",
        )?,
    })
}

fn forwarding(record: &Record, node: std::path::PathBuf) -> Forwarding {
    let api = std::net::SocketAddr::from((record.address(0), 6443));
    let gateway = |port| std::net::SocketAddr::from((GATEWAY_ADDRESS, port));
    Forwarding {
        node,
        ports: vec![
            (record.ports.api, api),
            (record.ports.front, std::net::SocketAddr::from((FRONT_ADDRESS, 6443))),
            (record.ports.http, gateway(80)),
            (record.ports.https, gateway(443)),
        ],
    }
}

fn node_config(options: &Options, record: &Record, facts: &Facts, index: u8) -> Result<NodeConfig> {
    let name = record.node(index);
    Ok(NodeConfig {
        cluster: record.name.clone(),
        directory: options.place.directory().node(&name),
        name,
        layers: record.layers.clone(),
        address: record.address(index),
        gateway: record.gateway(),
        bridge: record.short(""),
        link: record.short(&format!("n{index}")),
        registry: format!("http://{}:5000", record.address(0)),
        cgroups: cgroup::hierarchies()?,
        restrict_oom_score: facts.limits().restrict_oom_score,
        resolver: resolver(record),
    })
}

/// The machine's own name servers: what a local cache listens on is not
/// reachable from a node, so the list behind it is used.
fn resolver(record: &Record) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    let local = own.lines().any(|line| line.trim().starts_with("nameserver 127."));
    let chosen = if local { read("/run/systemd/resolve/resolv.conf") } else { own };
    if chosen.lines().any(|line| line.trim().starts_with("nameserver ")) {
        return chosen;
    }
    // A machine that can name nothing: the cluster's own names must work all
    // the same, and the others fail at once.
    format!("nameserver {}\n", record.gateway())
}

pub(super) fn remove_directory(directory: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Gives a new node its images: imports those of the system, and on the first
/// node fills the registry with all of them.
fn prepare_node(
    record: &Record,
    process: Process,
    name: &str,
    index: u8,
    progress: &dyn Progress,
) -> Result<()> {
    progress.step(&format!("loading images into node {name}"));
    let images = container_images(&record.layers)?;
    if index == 0 {
        let directory = format!("/proc/{}/root/var/lib/atoll/registry", process.pid);
        crate::image::fill_registry(&record.layers, std::path::Path::new(&directory))?;
    }
    let limit = Instant::now() + Duration::from_secs(30);
    while node::shell(process, "ctr version >/dev/null 2>&1").is_err() {
        if Instant::now() > limit {
            return Err(Error::Timeout {
                what: format!("containerd on node {name}"),
                seconds: 30,
                remedy: "see data/log/containerd.log in the node's directory".into(),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut groups: Vec<(usize, &str)> = Vec::new();
    for image in &images {
        let layer = record.layers.iter().position(|layer| image.layout.starts_with(layer));
        if let Some(layer) = layer {
            groups.push((layer, &image.group));
        }
    }
    groups.sort_unstable();
    groups.dedup();
    let total = groups.len() as u64;
    for (done, (layer, group)) in (0u64..).zip(groups) {
        // Apps' images come from the registry, when one asks for them.
        if group == "store" {
            continue;
        }
        progress.update(group, Some(done), Some(total));
        let line = format!(
            "tar -C /run/atoll/images/{layer}/{group} -c . | ctr -n k8s.io images import --local - >/dev/null"
        );
        node::shell(process, &line)?;
    }
    // kubelet never removes what is pinned.
    let system: Vec<&str> =
        images.iter().filter(|image| image.group != "store").map(|image| image.name.as_str()).collect();
    let line = format!(
        "for image in {}; do ctr -n k8s.io images label $image io.cri-containerd.pinned=pinned >/dev/null; done",
        system.join(" ")
    );
    node::shell(process, &line).map(|_| ())
}

async fn wait_for_api(client: &kube::Client, progress: &dyn Progress) -> Result<()> {
    let started = Instant::now();
    loop {
        // It answers before etcd does; ready it is only with it.
        let ready = http::Request::get("/readyz").body(Vec::new());
        let ready = ready.map_err(kube::Error::HttpError);
        let answer = match ready {
            Ok(request) => client.request_text(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > Duration::from_secs(120) => {
                return Err(Error::Timeout {
                    what: format!("the Kubernetes API ({error})"),
                    seconds: 120,
                    remedy: "see data/log/kubelet.log in the first node's directory".into(),
                });
            }
            Err(error) => {
                progress.update(&format!("waiting for the Kubernetes API ({error})"), None, None);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

/// Applies what the cluster image says; returns the authority's certificate.
async fn apply_manifests(client: &kube::Client, record: &Record, progress: &dyn Progress) -> Result<String> {
    // Certificates come before the servers that show them, and what the API
    // server is told to believe comes from them.
    let namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": api::names::SYSTEM_NAMESPACE }
    });
    apply::apply(client, &[namespace], "default", progress).await?;
    let authority = authority::ensure(client, &record.name).await?;
    let mut objects = Vec::new();
    for (name, text) in bootstrap::manifests(record, "manifests", Some(&authority))? {
        // One node has nobody to route to.
        if name == "11-routes.yaml" && record.nodes < 2 {
            continue;
        }
        objects.extend(manifest::parse(&name, &text)?);
    }
    for definition in api::definitions() {
        let definition = serde_json::to_value(definition).map_err(|error| Error::Manifest {
            name: "custom resources".into(),
            reason: error.to_string(),
        })?;
        objects.push(definition);
    }
    manifest::order(&mut objects);
    apply::apply(client, &objects, "default", progress).await?;
    Ok(authority)
}
