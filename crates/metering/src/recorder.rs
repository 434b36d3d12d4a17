//! Samples to readings. Pure: time comes with each sample.
//!
//! A counter that starts again, because a node did and the pod went on, is carried
//! on from what it had been: a pod's readings never go back. When the agent was
//! away, counters hold what it missed, and memory is taken to have been what it
//! was last seen to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use api::usage::{Meter, UsageBatch, UsageFact};

/// How many minutes of facts are kept while nobody takes them: three days. What
/// is dropped then is only which minute it was used in, because readings add up.
const KEPT_MINUTES: u64 = 3 * 24 * 60;

/// Something that is metered: a pod, or what a gateway carries for one workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The workspace it belongs to, by its namespace.
    pub workspace: String,
    /// Who pays for that workspace now.
    pub payer: String,
}

/// What a gateway carries for a workspace is called.
pub const GATEWAY: &str = "gateway";

impl Pod {
    /// What a gateway's process carries for the workspace of a namespace.
    pub fn gateway(epoch: &str, workspace: &str, payer: &str) -> Self {
        Self {
            uid: format!("{GATEWAY}/{epoch}/{workspace}"),
            // No pod's name: those have no slash.
            name: format!("{GATEWAY}/"),
            workspace: workspace.into(),
            payer: payer.into(),
        }
    }

    fn label(&self) -> String {
        match self.name.strip_suffix('/') {
            Some(other) => other.into(),
            None => format!("pod/{}", self.name),
        }
    }
}

/// What was seen of a pod at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Counters as they stand, each since some beginning.
    pub counters: BTreeMap<Meter, u64>,
    /// The memory it holds, in bytes, if that is known.
    pub memory_bytes: Option<u64>,
}

/// One counter of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    raw: u64,
    total: u64,
}

impl Counter {
    fn see(&mut self, raw: u64) {
        // Less than before: it began again, and all of it is new.
        self.total += raw.checked_sub(self.raw).unwrap_or(raw);
        self.raw = raw;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metered {
    pod: Pod,
    counters: BTreeMap<String, Counter>,
    memory_bytes: u64,
    /// Kibibyte-milliseconds, so that nothing is lost to rounding: a page is four.
    memory_total: u64,
    seen_millisecond: u64,
    /// Meters and what was last told of them.
    told: BTreeMap<String, u64>,
    ended: bool,
}

/// What a node's pods used so far. It is written down as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorder {
    /// Which life of this state: readings begin at zero with each.
    epoch: String,
    pods: BTreeMap<String, Metered>,
    /// What has not been taken yet, by minute.
    waiting: BTreeMap<u64, Vec<UsageFact>>,
}

impl Recorder {
    /// A state that begins now; `epoch` is like no other's.
    pub fn new(epoch: impl Into<String>) -> Self {
        Self { epoch: epoch.into(), ..Self::default() }
    }

    /// Takes note of what a pod has used. `now` is in milliseconds since 1970.
    pub fn see(&mut self, pod: &Pod, sample: &Sample, now: u64) {
        let metered = self.pods.entry(pod.uid.clone()).or_insert_with(|| Metered {
            pod: pod.clone(),
            counters: BTreeMap::new(),
            memory_bytes: 0,
            memory_total: 0,
            seen_millisecond: now,
            told: BTreeMap::new(),
            ended: false,
        });
        metered.pod = pod.clone();
        metered.hold(now);
        for (meter, raw) in &sample.counters {
            metered.counters.entry(meter.name().into()).or_default().see(*raw);
        }
        metered.memory_bytes = sample.memory_bytes.unwrap_or(0);
    }

    /// Takes note of a pod's last counters, when the pod itself is not known any
    /// more; one that never was is not metered.
    pub fn see_ended(&mut self, uid: &str, sample: &Sample, now: u64) {
        if let Some(metered) = self.pods.get(uid).filter(|metered| !metered.ended) {
            let pod = metered.pod.clone();
            self.see(&pod, sample, now);
        }
    }

    /// Takes note that a pod has ended; what it held until now counts.
    pub fn end(&mut self, uid: &str, now: u64) {
        if let Some(metered) = self.pods.get_mut(uid).filter(|metered| !metered.ended) {
            metered.hold(now);
            metered.memory_bytes = 0;
            metered.ended = true;
        }
    }

    /// The pods that have not ended, as far as is known here.
    pub fn running(&self) -> Vec<String> {
        self.pods.values().filter(|metered| !metered.ended).map(|metered| metered.pod.uid.clone()).collect()
    }

    /// Makes the facts of a minute that is over, of all that changed in it. Pods
    /// that ended are forgotten after it.
    pub fn close(&mut self, minute: u64) {
        let mut facts = Vec::new();
        for metered in self.pods.values_mut() {
            for (meter, reading) in metered.readings() {
                let told = metered.told.entry(meter.name().into()).or_default();
                if reading > *told {
                    *told = reading;
                    facts.push(UsageFact {
                        object: metered.pod.uid.clone(),
                        name: metered.pod.label(),
                        workspace: metered.pod.workspace.clone(),
                        payer: metered.pod.payer.clone(),
                        meter,
                        minute,
                        reading,
                    });
                }
            }
        }
        self.pods.retain(|_, metered| !metered.ended);
        if !facts.is_empty() {
            self.waiting.entry(minute).or_default().extend(facts);
        }
        let oldest = minute.saturating_sub(KEPT_MINUTES);
        let dropped = self.waiting.split_off(&oldest);
        self.keep_last(dropped);
    }

    /// Of minutes that are dropped each source's last fact is kept.
    fn keep_last(&mut self, kept: BTreeMap<u64, Vec<UsageFact>>) {
        let old = std::mem::replace(&mut self.waiting, kept);
        let mut last = BTreeMap::new();
        for fact in old.into_values().flatten() {
            last.insert((fact.object.clone(), fact.meter), fact);
        }
        for fact in last.into_values() {
            self.waiting.entry(fact.minute).or_default().push(fact);
        }
    }

    /// What waits to be sent, oldest first: whole minutes, and no more facts than
    /// `most` unless one minute has more. The second value is for
    /// [`taken`](Self::taken).
    pub fn batch(&self, cluster: &str, node: &str, most: usize) -> Option<(UsageBatch, u64)> {
        let mut facts = Vec::new();
        let mut last = None;
        for (minute, of_minute) in &self.waiting {
            if last.is_some() && facts.len() + of_minute.len() > most {
                break;
            }
            facts.extend(of_minute.iter().cloned());
            last = Some(*minute);
        }
        let batch =
            UsageBatch { cluster: cluster.into(), node: node.into(), epoch: self.epoch.clone(), facts };
        Some((batch, last?))
    }

    /// Forgets what was sent and counted: all up to that minute.
    pub fn taken(&mut self, minute: u64) {
        self.waiting = self.waiting.split_off(&(minute + 1));
    }
}

impl Metered {
    /// What it has held since it was last seen.
    fn hold(&mut self, now: u64) {
        let since = now.saturating_sub(self.seen_millisecond);
        self.memory_total += (self.memory_bytes >> 10) * since;
        self.seen_millisecond = self.seen_millisecond.max(now);
    }

    fn readings(&self) -> impl Iterator<Item = (Meter, u64)> + use<> {
        const MEBIBYTE_SECOND: u64 = 1000 << 10;
        let memory = self.memory_total / MEBIBYTE_SECOND;
        let counters: Vec<_> = self
            .counters
            .iter()
            .filter_map(|(name, counter)| Some((Meter::from_name(name)?, counter.total)))
            .chain([(Meter::MemoryMebibyteSeconds, memory)])
            .collect();
        counters.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pod(uid: &str) -> Pod {
        Pod { uid: uid.into(), name: "web".into(), workspace: "shop".into(), payer: "ada".into() }
    }

    fn sample(cpu: u64, memory_bytes: u64) -> Sample {
        Sample { counters: BTreeMap::from([(Meter::CpuMicroseconds, cpu)]), memory_bytes: Some(memory_bytes) }
    }

    /// The readings of a meter that wait, by minute.
    fn readings(recorder: &Recorder, meter: Meter) -> Vec<(u64, u64)> {
        let batch = recorder.batch("c", "n", usize::MAX);
        let facts = batch.map(|(batch, _)| batch.facts).unwrap_or_default();
        facts.iter().filter(|fact| fact.meter == meter).map(|fact| (fact.minute, fact.reading)).collect()
    }

    #[test]
    fn readings_grow_by_what_counters_say() {
        let mut recorder = Recorder::new("1");
        recorder.see(&pod("a"), &sample(500, 0), 0);
        recorder.close(0);
        recorder.see(&pod("a"), &sample(800, 0), 60_000);
        recorder.close(1);
        // Nothing changed: there is nothing to tell.
        recorder.close(2);
        assert_eq!(readings(&recorder, Meter::CpuMicroseconds), [(0, 500), (1, 800)]);
    }

    #[test]
    fn a_counter_that_begins_again_is_carried_on() {
        let mut recorder = Recorder::new("1");
        for raw in [500, 900, 100, 150] {
            recorder.see(&pod("a"), &sample(raw, 0), 0);
        }
        recorder.close(0);
        assert_eq!(readings(&recorder, Meter::CpuMicroseconds), [(0, 1050)]);
    }

    #[test]
    fn memory_is_held_between_samples_and_until_the_end() {
        let mut recorder = Recorder::new("1");
        recorder.see(&pod("a"), &sample(0, 100 * MIB), 0);
        recorder.see(&pod("a"), &sample(0, 50 * MIB), 10_000);
        recorder.end("a", 30_000);
        recorder.end("a", 90_000);
        recorder.close(0);
        assert_eq!(readings(&recorder, Meter::MemoryMebibyteSeconds), [(0, 100 * 10 + 50 * 20)]);
        recorder.close(1);
        assert_eq!(readings(&recorder, Meter::MemoryMebibyteSeconds).len(), 1);
        assert!(recorder.running().is_empty());
    }

    #[test]
    fn being_away_leaves_no_hole() {
        let mut recorder = Recorder::new("1");
        recorder.see(&pod("a"), &sample(100, 10 * MIB), 0);
        recorder.close(0);
        let text = serde_json::to_string(&recorder).unwrap();
        drop(recorder);
        // Killed, and back after ten minutes.
        let mut recorder: Recorder = serde_json::from_str(&text).unwrap();
        recorder.see(&pod("a"), &sample(5000, 10 * MIB), 600_000);
        recorder.close(10);
        assert_eq!(readings(&recorder, Meter::CpuMicroseconds), [(0, 100), (10, 5000)]);
        assert_eq!(readings(&recorder, Meter::MemoryMebibyteSeconds), [(10, 6000)]);
    }

    #[test]
    fn what_is_taken_is_not_sent_again() {
        let mut recorder = Recorder::new("1");
        for minute in 0..5 {
            recorder.see(&pod("a"), &sample(minute + 1, 0), minute * 60_000);
            recorder.close(minute);
        }
        let (first, last) = recorder.batch("c", "n", 2).unwrap();
        assert_eq!((first.facts.len(), last), (2, 1));
        recorder.taken(last);
        assert_eq!(readings(&recorder, Meter::CpuMicroseconds), [(2, 3), (3, 4), (4, 5)]);
        recorder.taken(4);
        assert_eq!(recorder.batch("c", "n", 2), None);
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_its_sum_is_kept() {
        let mut recorder = Recorder::new("1");
        recorder.see(&pod("gone"), &sample(77, 0), 0);
        recorder.end("gone", 1);
        for minute in 0..KEPT_MINUTES + 100 {
            recorder.see(&pod("a"), &sample(minute + 1, 0), minute * 60_000);
            recorder.close(minute);
        }
        let kept = readings(&recorder, Meter::CpuMicroseconds);
        assert!(u64::try_from(kept.len()).unwrap() <= KEPT_MINUTES + 3, "{}", kept.len());
        // The pod that ended long ago is still to be paid.
        assert_eq!(kept[0], (0, 77));
    }

    #[test]
    fn a_minute_is_paid_by_whoever_pays_then() {
        let mut recorder = Recorder::new("1");
        recorder.see(&pod("a"), &sample(10, 0), 0);
        recorder.close(0);
        recorder.see(&Pod { payer: "bob".into(), ..pod("a") }, &sample(20, 0), 60_000);
        recorder.close(1);
        let (batch, _) = recorder.batch("c", "n", 10).unwrap();
        let payers: Vec<_> = batch.facts.iter().map(|fact| fact.payer.as_str()).collect();
        assert_eq!(payers, ["ada", "bob"]);
    }
}
