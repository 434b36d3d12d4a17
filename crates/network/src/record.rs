//! A pod's record in the kernel, and what was counted for it.

use std::net::IpAddr;

use crate::address;
use crate::kernel::{CLASSES, Class, Counter, Counters, Direction, PodRecord, UNKNOWN};
use crate::{Error, Result};

/// A pod on this node, as the container runtime made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The runtime's id of its sandbox.
    pub sandbox: String,
    /// The node's side of its link.
    pub interface: String,
    /// At most one IPv4 and one IPv6 address.
    pub addresses: Vec<IpAddr>,
    /// Who it is to the policy.
    pub identity: u64,
    /// Whether the runtime removed it.
    pub ended: bool,
}

impl LocalPod {
    /// The record to be written. Errors name the field that doesn't fit.
    pub fn to_record(&self) -> Result<PodRecord> {
        let (mut v4, mut v6) = ([0; 4], [0; 4]);
        for ip in &self.addresses {
            let place = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
            if *place != [0; 4] {
                return Err(Error::Request {
                    what: "prevResult.ips",
                    why: "gives the pod two addresses of one family: one of each is supported".into(),
                });
            }
            *place = address::key(*ip);
        }
        Ok(PodRecord {
            identity: self.identity,
            v4,
            v6,
            ended: u32::from(self.ended),
            reserved: 0,
            uid: text("K8S_POD_UID", &self.uid)?,
            sandbox: text("CNI_CONTAINERID", &self.sandbox)?,
            interface: text("the interface's name", &self.interface)?,
            namespace: text("K8S_POD_NAMESPACE", &self.namespace)?,
            name: text("K8S_POD_NAME", &self.name)?,
        })
    }

    /// What a record says.
    pub fn from_record(record: &PodRecord) -> Self {
        Self {
            uid: string(&record.uid),
            namespace: string(&record.namespace),
            name: string(&record.name),
            sandbox: string(&record.sandbox),
            interface: string(&record.interface),
            addresses: [record.v4, record.v6].into_iter().filter_map(address::address).collect(),
            identity: record.identity,
            ended: record.ended != 0,
        }
    }

    /// Whether its workspace is known.
    pub fn is_known(&self) -> bool {
        self.identity != UNKNOWN
    }

    /// `namespace/name`, as people call it.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A namespace as a key of the kernel's table.
pub fn namespace_key(namespace: &str) -> Result<[u8; 64]> {
    text("the namespace", namespace)
}

fn text<const N: usize>(what: &'static str, value: &str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let why = if value.is_empty() {
        "is missing".to_owned()
    } else if value.contains('\0') {
        "contains a zero byte".to_owned()
    } else if let Some(place) = bytes.get_mut(..value.len()) {
        place.copy_from_slice(value.as_bytes());
        return Ok(bytes);
    } else {
        format!("is longer than {N} bytes")
    };
    Err(Error::Request { what, why })
}

pub(crate) fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// What was counted for a pod since its first packet, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(Counters);

impl Counts {
    /// Adds up what each processor counted.
    pub fn sum(processors: &[Counters]) -> Self {
        let mut sum = Counters::default();
        for processor in processors {
            for (direction, classes) in processor.iter().enumerate() {
                for (class, counter) in classes.iter().enumerate() {
                    if let Some(place) = sum.get_mut(direction).and_then(|s| s.get_mut(class)) {
                        place.bytes += counter.bytes;
                        place.packets += counter.packets;
                    }
                }
            }
        }
        Self(sum)
    }

    /// Cumulative bytes (with Ethernet headers, as on a wire) and packets.
    pub fn get(&self, direction: Direction, class: Class) -> Counter {
        const { assert!((Class::Dropped as usize) < CLASSES) };
        self.0[direction as usize][class as usize]
    }

    /// Each direction and class with its counter.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, Class, Counter)> + '_ {
        [Direction::Sent, Direction::Received].into_iter().flat_map(move |direction| {
            [Class::Workspace, Class::Cluster, Class::Internet, Class::Node, Class::Dropped]
                .into_iter()
                .map(move |class| (direction, class, self.get(direction, class)))
        })
    }
}

/// What was counted for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Whether the runtime removed its sandbox.
    pub ended: bool,
    /// What was counted since [`crate::Node::epoch`] began.
    pub counts: Counts,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> LocalPod {
        LocalPod {
            uid: "a9d1".into(),
            namespace: "team-abcdef".into(),
            name: "web-0".into(),
            sandbox: "0123".into(),
            interface: "veth1".into(),
            addresses: vec!["10.244.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            identity: 7,
            ended: false,
        }
    }

    #[test]
    fn a_pod_comes_back_from_its_record() {
        assert_eq!(LocalPod::from_record(&pod().to_record().unwrap()), pod());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |change: fn(&mut LocalPod), expected: &str| {
            let mut pod = pod();
            change(&mut pod);
            let error = pod.to_record().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|pod| pod.uid.clear(), "K8S_POD_UID is missing");
        check(|pod| pod.sandbox = "x".repeat(65), "CNI_CONTAINERID is longer than 64 bytes");
        check(|pod| pod.name = "a\0b".into(), "K8S_POD_NAME contains a zero byte");
        check(|pod| pod.addresses[1] = "10.0.0.1".parse().unwrap(), "two addresses of one family");
    }

    #[test]
    fn processors_are_added_up() {
        let mut one = Counters::default();
        one[1][2] = Counter { bytes: 10, packets: 1 };
        let mut two = Counters::default();
        two[1][2] = Counter { bytes: 5, packets: 2 };
        let counts = Counts::sum(&[one, two]);
        assert_eq!(counts.get(Direction::Received, Class::Internet), Counter { bytes: 15, packets: 3 });
        assert_eq!(counts.iter().filter(|(_, _, counter)| counter.packets > 0).count(), 1);
    }
}
