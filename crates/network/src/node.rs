//! What the agent calls.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::attach::{self, Program};
use crate::kernel::UNKNOWN;
use crate::maps::{Maps, Pins};
use crate::plan::{DesiredState, Tables, identity_of, plan};
use crate::record::{LocalPod, Reading};
use crate::{Result, address, cni};

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where bpffs is, or is to be mounted.
    pub bpffs: PathBuf,
    /// The kernel half, as the node sees it.
    pub program: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { bpffs: "/sys/fs/bpf".into(), program: "/usr/lib/atoll/network.o".into() }
    }
}

/// The data path of this node. All of it lives in the kernel: when this is
/// dropped, and while no agent runs, judging and counting go on.
#[derive(Debug)]
pub struct Node {
    pins: Pins,
    maps: Maps,
    epoch: String,
    applied: Tables,
}

impl Node {
    /// Opens what an earlier agent or the CNI plugin made, or makes it. Pods that
    /// run an older program are given this one.
    pub fn open(config: &Config) -> Result<Self> {
        let pins = Pins::create(&config.bpffs)?;
        let _lock = pins.lock()?;
        let replaced = Program::read(&config.program)?.install(&pins)?;
        if replaced > 0 {
            tracing::info!(replaced, "gave pods the new network program");
        }
        let mut maps = Maps::open(&pins)?;
        let epoch = maps.epoch()?;
        let applied = maps.tables()?;
        Ok(Self { pins, maps, epoch, applied })
    }

    /// Which life of the counters this is: all readings begin at 0 with each. It
    /// changes when the machine starts or everything was removed.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Tells the kernel who is where. Only what changed is written; how many
    /// entries that were is returned. When it fails, pods keep what they had or
    /// have less; call it again.
    pub fn apply(&mut self, state: &DesiredState) -> Result<usize> {
        let _lock = self.pins.lock()?;
        let pods = self.maps.pods()?;
        let local: Vec<LocalPod> = pods.values().cloned().collect();
        let tables = plan(state, &local);
        let mut changed = self.maps.apply(&self.applied, &tables)?;
        self.applied = tables;
        // Last: a pod begins to talk when all is known about those it talks to.
        for (slot, mut pod) in pods {
            let identity = if pod.ended { UNKNOWN } else { identity_of(state, &pod.namespace) };
            if pod.identity != identity {
                pod.identity = identity;
                self.maps.put_pod(slot, &pod)?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// What was counted for each pod that is or was on this node and isn't
    /// forgotten yet.
    pub fn readings(&self) -> Result<Vec<Reading>> {
        self.maps.pods()?.into_iter().map(|(slot, pod)| self.reading(slot, pod)).collect()
    }

    fn reading(&self, slot: u32, pod: LocalPod) -> Result<Reading> {
        let counts = self.maps.counts(slot)?;
        Ok(Reading { uid: pod.uid, namespace: pod.namespace, name: pod.name, ended: pod.ended, counts })
    }

    /// The final readings of pods whose links are gone. `alive` are the UIDs of
    /// pods that the API server still has on this node: such a pod may get a new
    /// sandbox, and counts on. When a reading is safe, call [`Self::forget`].
    pub fn collect_ended(&self, alive: &BTreeSet<String>) -> Result<Vec<Reading>> {
        let _lock = self.pins.lock()?;
        let mut ended = Vec::new();
        for (slot, pod) in self.maps.pods()? {
            if !alive.contains(&pod.uid) && attach::sweep(&self.pins, slot)? {
                ended.push(self.reading(slot, LocalPod { ended: true, ..pod })?);
            }
        }
        Ok(ended)
    }

    /// Frees the slot of a pod whose final reading was collected. Returns false,
    /// and keeps it, if the pod has a link again.
    pub fn forget(&mut self, uid: &str) -> Result<bool> {
        let _lock = self.pins.lock()?;
        for (slot, pod) in self.maps.pods()?.into_iter().filter(|(_, pod)| pod.uid == uid) {
            if !attach::sweep(&self.pins, slot)? {
                return Ok(false);
            }
            release(&mut self.maps, slot, &pod)?;
            self.maps.remove_pod(slot)?;
        }
        Ok(true)
    }

    /// What the agent puts last into the CNI chain.
    pub fn cni_entry(config: &Config) -> serde_json::Value {
        cni::entry(config)
    }
}

/// Makes a pod's addresses nobody's, if no other pod of this node has them.
pub(crate) fn release(maps: &mut Maps, slot: u32, pod: &LocalPod) -> Result<()> {
    let others = maps.pods()?;
    for ip in &pod.addresses {
        let taken = others
            .iter()
            .any(|(other, record)| *other != slot && !record.ended && record.addresses.contains(ip));
        if !taken {
            maps.remove_address(&address::key(*ip))?;
        }
    }
    Ok(())
}

/// Detaches every program and removes every map below `bpffs`. Pods that are
/// still there are then neither isolated nor counted. A bpffs that was mounted
/// stays.
pub fn remove_all(bpffs: &std::path::Path) -> Result<()> {
    Pins::remove_all(bpffs)
}
