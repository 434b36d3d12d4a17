//! Counts what is used: the one writer of a shared quota's `used`.
//!
//! It watches the quotas, whose workspaces are whose, and the objects of every kind
//! that some quota asks about. When two processes count for a moment, the later one
//! takes over and the earlier one's next write fails: what it knew may be older.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DynamicObject, PartialObjectMeta, PostParams};
use kube::core::ApiResource;
use kube::error::DiscoveryError;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt, discovery};
use serde_json::Value;
use tokio::sync::Notify;

use api::{Reservation, SharedQuota, Workspace};

use super::book::settle;
use super::charge::Interest;
use super::cover::Cover;
use super::index::Index;
use crate::condition;

/// How much happens before it is written down: as long as a reservation stays for
/// nothing.
const TOGETHER: Duration = Duration::from_millis(50);
/// When a request that was admitted has ended: the API server ends a write after 34
/// seconds at the latest.
const ENDED: Duration = Duration::from_secs(40);
/// How often it is looked for requests that have ended, and for kinds that were missing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is told of an object, whatever its kind.
enum Told {
    Begin,
    There { namespace: String, uid: String, object: Value },
    Gone { namespace: String, uid: String },
    All,
}

/// Says what is above a workspace, the nearest first.
pub type Above = Box<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// What the keeper knows from elsewhere.
pub struct Sources {
    /// All quotas.
    pub quotas: Store<SharedQuota>,
    /// Told when one has changed.
    pub quotas_changed: Arc<Notify>,
    /// All workspaces.
    pub workspaces: Store<Workspace>,
    /// Told when one has changed.
    pub workspaces_changed: Arc<Notify>,
    /// Which are above which.
    pub above: Above,
}

type Watches = SelectAll<BoxStream<'static, (String, Told)>>;

struct Keeper {
    client: Client,
    sources: Sources,
    /// This process among those that counted.
    name: String,
    /// The quotas that this process has counted, and those that another one took over.
    held: HashSet<String>,
    lost: HashSet<String>,
    interest: Interest,
    /// Kinds of which not all objects are known yet.
    unlisted: BTreeSet<String>,
    /// Kinds that aren't watched: the server doesn't have them, or didn't say whether it
    /// has, and then they are unlisted as well.
    missing: BTreeSet<String>,
    index: Index,
    cover: Cover,
    /// The namespaces in which something has changed.
    changed: HashSet<String>,
    /// The version of each quota that was looked at last.
    seen: HashMap<String, String>,
    /// When each reservation was first seen, by quota and key.
    since: HashMap<String, HashMap<String, Instant>>,
    /// Reservations of requests that have ended without an object, by quota.
    overdue: HashMap<String, HashSet<String>>,
}

/// Counts, and never ends.
pub async fn run(client: Client, sources: Sources) {
    let mut keeper = Keeper {
        client,
        sources,
        name: format!("{:016x}", rand::random::<u64>()),
        held: HashSet::new(),
        lost: HashSet::new(),
        interest: Interest::default(),
        unlisted: BTreeSet::new(),
        missing: BTreeSet::new(),
        index: Index::default(),
        cover: Cover::default(),
        changed: HashSet::new(),
        seen: HashMap::new(),
        since: HashMap::new(),
        overdue: HashMap::new(),
    };
    let mut watches = Watches::new();
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    look_again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut retry = false;
        tokio::select! {
            Some((kind, told)) = watches.next() => {
                keeper.hear(&kind, told);
                // What follows at once is written down with it.
                let together = tokio::time::sleep(TOGETHER);
                tokio::pin!(together);
                loop {
                    tokio::select! {
                        biased;
                        () = &mut together => break,
                        Some((kind, told)) = watches.next() => keeper.hear(&kind, told),
                    }
                }
            }
            () = keeper.sources.quotas_changed.notified() => {}
            () = keeper.sources.workspaces_changed.notified() => keeper.cover = Cover::default(),
            _ = look_again.tick() => {
                retry = !keeper.missing.is_empty();
                keeper.look_for_ended().await;
            }
        }
        // What this process knows may be older than what the one before it knew: it
        // takes over first, and then looks.
        let anew = keeper.take_over().await;
        let wanted = keeper.wanted();
        if anew || wanted != keeper.interest {
            watches = Watches::new();
            keeper.begin(wanted, &mut watches).await;
        } else if retry {
            keeper.add_missing(&mut watches).await;
        }
        keeper.write().await;
    }
}

impl Keeper {
    fn wanted(&self) -> Interest {
        Interest::of(self.sources.quotas.state().iter().map(|quota| &quota.spec))
    }

    /// Makes the quotas this process's that another one counted.
    async fn take_over(&mut self) -> bool {
        let mut taken = false;
        for quota in self.sources.quotas.state() {
            let name = quota.name_any();
            match quota.status.as_ref().and_then(|status| status.keeper.as_deref()) {
                None => {}
                Some(keeper) if keeper == self.name => drop(self.held.insert(name)),
                Some(_) if self.held.contains(&name) => drop(self.lost.insert(name)),
                Some(_) => {
                    let mut next = SharedQuota::clone(&quota);
                    next.status.get_or_insert_default().keeper = Some(self.name.clone());
                    if self.replace(&next).await {
                        self.held.insert(name);
                        taken = true;
                    }
                }
            }
        }
        taken
    }

    /// Writes a quota's status; not when somebody else has written meanwhile, which is
    /// told soon.
    async fn replace(&self, next: &SharedQuota) -> bool {
        let objects: Api<SharedQuota> = Api::all(self.client.clone());
        match objects.replace_status(&next.name_any(), &PostParams::default(), next).await {
            Ok(_) => true,
            Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => false,
            Err(error) => {
                tracing::warn!(%error, quota = next.name_any(), "writing what is used; trying again");
                tokio::time::sleep(TOGETHER).await;
                self.sources.quotas_changed.notify_one();
                false
            }
        }
    }

    /// Begins anew with what is to be counted.
    async fn begin(&mut self, wanted: Interest, watches: &mut Watches) {
        self.missing = wanted.kinds();
        self.interest = wanted;
        self.index = Index::default();
        self.unlisted.clear();
        self.seen.clear();
        self.add_missing(watches).await;
    }

    /// Watches the kinds that the server has by now.
    async fn add_missing(&mut self, watches: &mut Watches) {
        for kind in std::mem::take(&mut self.missing) {
            let resource = match resource(&self.client, &kind).await {
                Ok(Some(resource)) => resource,
                Ok(None) => {
                    self.unlisted.remove(&kind);
                    self.missing.insert(kind);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, kind, "looking for a kind that quotas count; trying again");
                    self.unlisted.insert(kind.clone());
                    self.missing.insert(kind);
                    continue;
                }
            };
            self.seen.clear();
            self.unlisted.insert(kind.clone());
            let (client, config) = (self.client.clone(), watcher::Config::default());
            watches.push(if self.interest.changes(&kind) {
                let objects: Api<DynamicObject> = Api::all_with(client, &resource);
                told(kind, watcher(objects, config).default_backoff())
            } else {
                // That they are there is all that counts.
                let objects: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
                told(kind, watcher(objects, config).default_backoff())
            });
        }
    }

    fn hear(&mut self, kind: &str, told: Told) {
        match told {
            Told::Begin => self.index.begin(kind),
            Told::There { namespace, uid, object } => {
                if let Some((name, fault)) = self.interest.unmeasured(kind, &object) {
                    tracing::warn!(kind, namespace, uid, name, %fault, "an object that was there before counts as nothing");
                }
                let charge = self.interest.charge(kind, &object);
                self.index.put(kind, &namespace, &uid, charge);
                self.changed.insert(namespace);
            }
            Told::Gone { namespace, uid } => {
                self.index.remove(&uid);
                self.changed.insert(namespace);
            }
            Told::All => {
                self.index.end(kind);
                self.unlisted.remove(kind);
                // Some may have gone unheard.
                self.seen.clear();
            }
        }
    }

    /// Writes every quota of which something else is known than what it says.
    async fn write(&mut self) {
        let quotas = self.sources.quotas.state();
        if self.cover.refresh(&quotas, &self.sources.workspaces, &self.sources.above) {
            self.seen.clear();
        }
        let names: HashSet<String> = quotas.iter().map(|quota| quota.name_any()).collect();
        for set in [&mut self.held, &mut self.lost] {
            set.retain(|name| names.contains(name));
        }
        self.since.retain(|name, _| names.contains(name));
        self.overdue.retain(|name, _| names.contains(name));
        self.seen.retain(|name, _| names.contains(name));
        let touched: HashSet<&String> =
            self.changed.iter().flat_map(|namespace| self.cover.quotas(namespace)).collect();
        let nowhere = HashSet::new();
        let mut written = Vec::new();
        for quota in quotas {
            let name = quota.name_any();
            let version = quota.resource_version().unwrap_or_default();
            let keeper = quota.status.as_ref().and_then(|status| status.keeper.as_deref());
            let is_ours = keeper.is_none_or(|keeper| keeper == self.name) && !self.lost.contains(&name);
            if !is_ours || (self.seen.get(&name) == Some(&version) && !touched.contains(&name)) {
                continue;
            }
            // Less than what is there must never be written. The others go on.
            if !Interest::of([&quota.spec]).kinds().is_disjoint(&self.unlisted) {
                continue;
            }
            written.push((name, version, quota));
        }
        self.changed.clear();
        for (name, version, quota) in written {
            self.note(&quota);
            let namespaces = self.cover.namespaces(&name).unwrap_or(&nowhere);
            let none = HashSet::new();
            let overdue = self.overdue.get(&name).unwrap_or(&none);
            let next = settle(&quota, &self.name, &self.index, namespaces, overdue);
            if let Some(next) = self.with_condition(&quota, next, namespaces.len()) {
                self.replace(&next).await;
                // What comes of it is told, and looked at.
                self.seen.remove(&name);
            } else {
                self.seen.insert(name, version);
            }
        }
    }

    /// Remembers since when each reservation is known.
    fn note(&mut self, quota: &SharedQuota) {
        let name = quota.name_any();
        let Some(status) = &quota.status else { return };
        let since = self.since.entry(name.clone()).or_default();
        since.retain(|key, _| status.reserved.contains_key(key));
        for key in status.reserved.keys() {
            since.entry(key.clone()).or_insert_with(Instant::now);
        }
        if let Some(overdue) = self.overdue.get_mut(&name) {
            overdue.retain(|key| status.reserved.contains_key(key));
        }
    }

    /// What is to be written, with the condition that says whether all is counted.
    fn with_condition(
        &self,
        quota: &SharedQuota,
        next: Option<SharedQuota>,
        workspaces: usize,
    ) -> Option<SharedQuota> {
        let interest = Interest::of([&quota.spec]);
        let own = interest.kinds();
        let missing: Vec<&str> = own.intersection(&self.missing).map(String::as_str).collect();
        let (status, reason, message) = if let Some((name, fault)) = interest.unreadable() {
            ("False", "BadExpression", format!("spec.measures[{name}].expression: {fault}"))
        } else if missing.is_empty() {
            ("True", "Counted", format!("what {workspaces} workspaces use is known"))
        } else {
            (
                "False",
                "KindMissing",
                format!("the cluster has no {}: define it, or correct spec.hard", missing.join(", ")),
            )
        };
        let before = quota.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let is_told =
            before.first().is_some_and(|before| before.status == status && before.message == message);
        if is_told && next.is_none() {
            return None;
        }
        let mut next = next.unwrap_or_else(|| quota.clone());
        if !is_told {
            let now = Time(k8s_openapi::jiff::Timestamp::now());
            let told = (status, reason, message);
            next.status.get_or_insert_default().conditions =
                vec![condition::next(before, "Counted", told, quota.metadata.generation, now)];
        }
        Some(next)
    }

    /// Looks for the objects of requests that must have ended by now.
    async fn look_for_ended(&mut self) {
        for quota in self.sources.quotas.state() {
            let name = quota.name_any();
            let Some(status) = &quota.status else { continue };
            for (key, reservation) in &status.reserved {
                let since = self.since.get(&name).and_then(|since| since.get(key));
                if since.is_some_and(|since| since.elapsed() > ENDED) && self.is_nowhere(reservation).await {
                    self.overdue.entry(name.clone()).or_default().insert(key.clone());
                    self.seen.remove(&name);
                }
            }
        }
    }

    /// Whether an object that may have been stored wasn't. Asked of etcd itself: a watch
    /// or a cache could be behind. One that is there was changed long ago or never; what
    /// it uses now the watch tells.
    async fn is_nowhere(&self, reservation: &Reservation) -> bool {
        let resource = match resource(&self.client, &reservation.resource).await {
            Ok(Some(resource)) => resource,
            Ok(None) => return true,
            Err(error) => {
                tracing::warn!(%error, kind = reservation.resource, "looking for what was admitted");
                return false;
            }
        };
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &reservation.namespace, &resource);
        match objects.get_metadata_opt(&reservation.name).await {
            Ok(Some(found)) if found.uid().as_deref() == Some(&reservation.uid) => {
                // A change that was never made, of an object that is there and known.
                reservation.total.is_some() && self.index.charge(&reservation.uid).is_some()
            }
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, object = reservation.name, "looking for what was admitted");
                false
            }
        }
    }
}

/// The kind as the server has it; nothing when it has none.
async fn resource(client: &Client, kind: &str) -> Result<Option<ApiResource>, kube::Error> {
    let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
    let known = match discovery::group(client, group).await {
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => return Ok(None),
        known => known?,
    };
    let resources = known.recommended_resources().into_iter().map(|(resource, _)| resource);
    Ok(resources.into_iter().find(|one| one.plural == plural))
}

fn told<K>(
    kind: String,
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
) -> BoxStream<'static, (String, Told)>
where
    K: kube::Resource + serde::Serialize + Send + 'static,
{
    events
        .filter_map(move |event| {
            let told = match event {
                Ok(watcher::Event::Init) => Some(Told::Begin),
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    let (namespace, uid) = (object.namespace(), object.uid());
                    namespace
                        .zip(uid)
                        .zip(serde_json::to_value(&object).ok())
                        .map(|((namespace, uid), object)| Told::There { namespace, uid, object })
                }
                Ok(watcher::Event::Delete(object)) => {
                    object.namespace().zip(object.uid()).map(|(namespace, uid)| Told::Gone { namespace, uid })
                }
                Ok(watcher::Event::InitDone) => Some(Told::All),
                Err(error) => {
                    tracing::warn!(%error, kind, "watching what quotas count");
                    None
                }
            };
            futures::future::ready(told.map(|told| (kind.clone(), told)))
        })
        .boxed()
}
