//! The chained CNI plugin: `atoll-cni`, the last of the chain. It attaches a
//! pod's programs before the pod's first process starts; when it can't, the pod
//! doesn't start.
//!
//! `DEL` leaves the programs where they are, and tells them that the pod is
//! nobody now: the link is taken away only later, by the plugin before us, and
//! until then nothing may pass uncounted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::attach::{self, Program};
use crate::kernel::UNKNOWN;
use crate::maps::{Maps, Pins};
use crate::node::{Config, release};
use crate::record::LocalPod;
use crate::{Error, Result, address};

/// The versions of CNI that are spoken.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the agent puts last into the CNI chain.
pub fn entry(config: &Config) -> Value {
    json!({ "type": "atoll-cni", "bpffs": config.bpffs, "program": config.program })
}

/// What the runtime says in the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub sandbox: String,
    /// `CNI_ARGS`.
    pub arguments: String,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self {
            command: variable("CNI_COMMAND"),
            sandbox: variable("CNI_CONTAINERID"),
            arguments: variable("CNI_ARGS"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    cni_version: String,
    #[serde(default)]
    bpffs: Option<PathBuf>,
    #[serde(default)]
    program: Option<PathBuf>,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    sandbox: String,
}

impl Network {
    fn config(&self) -> Config {
        let usual = Config::default();
        Config {
            bpffs: self.bpffs.clone().unwrap_or(usual.bpffs),
            program: self.program.clone().unwrap_or(usual.program),
        }
    }
}

/// Does what the runtime asks. Returns what is to be printed, and whether it
/// went well.
pub fn run(environment: &Environment, input: &str) -> (Value, bool) {
    let network: Network = match serde_json::from_str(input) {
        Ok(network) => network,
        Err(error) => return (failure("1.0.0", 6, &format!("the network configuration: {error}")), false),
    };
    let version = network.cni_version.clone();
    if environment.command == "VERSION" {
        return (json!({ "cniVersion": version, "supportedVersions": VERSIONS }), true);
    }
    if !VERSIONS.contains(&version.as_str()) {
        let known = VERSIONS.join(", ");
        return (
            failure(&version, 1, &format!("CNI {version} is not spoken here: there are {known}")),
            false,
        );
    }
    let done = match environment.command.as_str() {
        "ADD" => add(environment, &network),
        "DEL" => delete(environment, &network).map(|()| Value::Null),
        "CHECK" => check(environment, &network).map(|()| Value::Null),
        "GC" => collect(&network).map(|()| Value::Null),
        "STATUS" => {
            let config = network.config();
            if Pins::find(&config.bpffs).is_none() || !config.program.is_file() {
                let why = "the network's programs are not there: is the agent running on this node?";
                return (failure(&version, 50, why), false);
            }
            Ok(Value::Null)
        }
        other => {
            return (failure(&version, 4, &format!("CNI_COMMAND {other:?} is not known")), false);
        }
    };
    match done {
        Ok(value) => (value, true),
        Err(error) => {
            let code = match error {
                Error::Request { .. } => 7,
                Error::Unprotected { .. } => 100,
                _ => 101,
            };
            (failure(&version, code, &error.to_string()), false)
        }
    }
}

fn failure(version: &str, code: u32, why: &str) -> Value {
    json!({ "cniVersion": version, "code": code, "msg": format!("atoll-cni: {why}") })
}

fn add(environment: &Environment, network: &Network) -> Result<Value> {
    let mut pod = pod(environment, network)?;
    let config = network.config();
    let pins = Pins::create(&config.bpffs)?;
    let _lock = pins.lock()?;
    let program = Program::read(&config.program)?;
    if Pins::find(&config.bpffs).is_none() {
        program.install(&pins)?;
    }
    let mut maps = Maps::open(&pins)?;
    pod.identity = maps.identity(&pod.namespace)?.unwrap_or(UNKNOWN);

    let pods = maps.pods()?;
    let known = pods.iter().find(|(_, other)| other.uid == pod.uid).map(|(slot, _)| *slot);
    // A slot is given again only when its reading was collected and it was
    // forgotten. 0 is nobody's.
    let slot = known.unwrap_or_else(|| pods.keys().next_back().map_or(1, |last| last + 1));
    if known.is_some() {
        // The sandbox before this one.
        attach::sweep(&pins, slot)?;
    }
    let protected = maps.put_pod(slot, &pod).and_then(|()| program.attach(&pins, slot, &pod.interface));
    let protected = protected.and_then(|()| {
        pod.addresses.iter().try_for_each(|ip| maps.put_address(address::key(*ip), pod.identity))
    });
    if let Err(error) = protected {
        // The link stays closed or is nobody's; the runtime takes it away.
        let _ = end(&mut maps, slot, &pod);
        return Err(error);
    }
    let mut result = network.prev_result.clone().unwrap_or_default();
    if let Some(result) = result.as_object_mut() {
        result.entry("cniVersion").or_insert_with(|| json!(network.cni_version));
    }
    Ok(result)
}

fn delete(environment: &Environment, network: &Network) -> Result<()> {
    let Some(pins) = Pins::find(&network.config().bpffs) else { return Ok(()) };
    let _lock = pins.lock()?;
    let mut maps = Maps::open(&pins)?;
    for (slot, pod) in maps.pods()? {
        if pod.sandbox == environment.sandbox {
            end(&mut maps, slot, &pod)?;
        }
    }
    Ok(())
}

/// Makes a pod nobody. Its counters are kept for the agent.
fn end(maps: &mut Maps, slot: u32, pod: &LocalPod) -> Result<()> {
    maps.put_pod(slot, &LocalPod { ended: true, identity: UNKNOWN, ..pod.clone() })?;
    release(maps, slot, pod)
}

fn check(environment: &Environment, network: &Network) -> Result<()> {
    let expected = pod(environment, network)?;
    let unprotected = |why: &str| Error::Unprotected { pod: expected.title(), why: why.to_owned() };
    let pins = Pins::find(&network.config().bpffs).ok_or_else(|| unprotected("no program is attached"))?;
    let _lock = pins.lock()?;
    let maps = Maps::open(&pins)?;
    let (slot, found) = maps
        .pods()?
        .into_iter()
        .find(|(_, pod)| pod.sandbox == expected.sandbox && !pod.ended)
        .ok_or_else(|| unprotected("it was never made known to the network"))?;
    if found.addresses.iter().collect::<BTreeSet<_>>() != expected.addresses.iter().collect() {
        return Err(unprotected("its addresses are not those that its programs let through"));
    }
    match attach::attached(&pins, slot, &expected.interface)? {
        2 => Ok(()),
        _ => Err(unprotected("its programs are not attached")),
    }
}

fn collect(network: &Network) -> Result<()> {
    let Some(pins) = Pins::find(&network.config().bpffs) else { return Ok(()) };
    let Some(valid) = &network.valid else { return Ok(()) };
    let _lock = pins.lock()?;
    let mut maps = Maps::open(&pins)?;
    for (slot, pod) in maps.pods()?.into_iter().filter(|(_, pod)| !pod.ended) {
        if !valid.iter().any(|attachment| attachment.sandbox == pod.sandbox) {
            end(&mut maps, slot, &pod)?;
        }
    }
    Ok(())
}

/// The pod that the runtime speaks of. Its identity is not known yet.
fn pod(environment: &Environment, network: &Network) -> Result<LocalPod> {
    let argument = |what: &'static str| {
        environment
            .arguments
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == what)
            .map(|(_, value)| value.to_owned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::Request { what, why: "is missing in CNI_ARGS".into() })
    };
    if environment.sandbox.is_empty() {
        return Err(Error::Request { what: "CNI_CONTAINERID", why: "is missing".into() });
    }
    let previous = network.prev_result.as_ref().ok_or_else(|| Error::Request {
        what: "prevResult",
        why: "is missing: atoll-cni comes after the plugin that makes the link".into(),
    })?;
    Ok(LocalPod {
        uid: argument("K8S_POD_UID")?,
        namespace: argument("K8S_POD_NAMESPACE")?,
        name: argument("K8S_POD_NAME")?,
        sandbox: environment.sandbox.clone(),
        interface: interface(previous)?,
        addresses: addresses(previous)?,
        identity: UNKNOWN,
        ended: false,
    })
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_inside(interface: &Value) -> bool {
    interface.get("sandbox").and_then(Value::as_str).is_some_and(|sandbox| !sandbox.is_empty())
}

/// The node's side of the link: the only interface that is in no sandbox. Of two
/// we could not tell which one all of the pod's packets take.
fn interface(previous: &Value) -> Result<String> {
    let outside: Vec<&str> = list(previous, "interfaces")
        .iter()
        .filter(|interface| !is_inside(interface))
        .filter_map(|interface| interface.get("name")?.as_str())
        .collect();
    match outside.as_slice() {
        [one] if !one.is_empty() => Ok((*one).to_owned()),
        others => Err(Error::Request {
            what: "prevResult.interfaces",
            why: format!(
                "has {} interfaces on the node's side, not one: the plugin before must be ptp",
                others.len()
            ),
        }),
    }
}

fn addresses(previous: &Value) -> Result<Vec<IpAddr>> {
    let wrong = |why: String| Error::Request { what: "prevResult.ips", why };
    let mut addresses = Vec::new();
    for entry in list(previous, "ips") {
        let text = entry.get("address").and_then(Value::as_str).unwrap_or_default();
        let net: IpNet = text.parse().map_err(|_| wrong(format!("has {text:?}, which is no address")))?;
        addresses.push(net.addr());
    }
    if addresses.is_empty() {
        return Err(wrong("gives the pod no address".into()));
    }
    Ok(addresses)
}
