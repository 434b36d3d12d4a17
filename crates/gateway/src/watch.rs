//! The API server's objects as a stream of [`Change`]s, one task for each kind.
//!
//! With the API server away the streams are silent and what is known stays.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, Either, join_all, select};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::challenge::Challenge;
use crate::gateway_api::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TLSRoute,
};
use crate::index::Index;
use crate::lean::{Lean, Parts};
use crate::object::{self, Id, Kind, Object};
use crate::table::Table;

#[derive(Debug)]
pub enum Change {
    Apply(Box<Object>),
    Delete(Kind, Id),
    /// A full list of the kind has gone by: what it did not name is gone.
    Listed(Kind, HashSet<Id>),
    /// The cluster doesn't have the kind.
    Absent(Kind),
}

/// A change and when it was heard of.
pub type Heard = (Change, Instant);

/// Dropping it ends the watches.
pub struct Watches {
    _stop: oneshot::Sender<Infallible>,
}

/// Watches kinds, as long as what is returned is kept. All on one thread of their
/// own, which hands its memory from one to the next and shares none of it with
/// what is kept.
pub fn start(client: &Client, kinds: &[Kind], to: &mpsc::Sender<Heard>) -> Watches {
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    let first = Arc::new(First::of(kinds));
    for kind in kinds {
        let (client, to) = (client.clone(), (to.clone(), first.clone()));
        let any = watcher::Config::default().page_size(PAGE);
        let task = match kind {
            Kind::Ingress => watch::<Ingress>(client, *kind, any, to).boxed(),
            Kind::HttpRoute => watch::<HTTPRoute>(client, *kind, any, to).boxed(),
            Kind::GrpcRoute => watch::<GRPCRoute>(client, *kind, any, to).boxed(),
            Kind::TlsRoute => watch::<TLSRoute>(client, *kind, any, to).boxed(),
            Kind::Gateway => watch::<Gateway>(client, *kind, any, to).boxed(),
            Kind::GatewayClass => watch::<GatewayClass>(client, *kind, any, to).boxed(),
            Kind::ReferenceGrant => watch::<ReferenceGrant>(client, *kind, any, to).boxed(),
            Kind::BackendTlsPolicy => watch::<BackendTLSPolicy>(client, *kind, any, to).boxed(),
            Kind::Namespace => watch::<Namespace>(client, *kind, any, to).boxed(),
            Kind::Service => watch::<Service>(client, *kind, any, to).boxed(),
            Kind::EndpointSlice => watch::<EndpointSlice>(client, *kind, any, to).boxed(),
            Kind::Secret => {
                let tls = any.fields("type=kubernetes.io/tls");
                watch::<Secret>(client, *kind, tls, to).boxed()
            }
            Kind::ConfigMap => {
                // Every namespace has this one, and no backend is verified by it.
                let others = any.fields("metadata.name!=kube-root-ca.crt");
                watch::<ConfigMap>(client, *kind, others, to).boxed()
            }
            // One by one, as they are wanted.
            Kind::Users => continue,
        };
        tasks.push(task);
    }
    let (stop, stopped) = oneshot::channel();
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let watching = select(join_all(tasks), stopped);
        let listed = pin!(first.all());
        if let Either::Right((_, watching)) = runtime.block_on(select(watching, listed)) {
            // What the lists have taken goes with the thread that has read them.
            let handle = runtime.clone();
            runtime.spawn_blocking(move || drop(handle.block_on(watching)));
        }
    });
    Watches { _stop: stop }
}

/// Objects in one answer to a list: what is on its way is a part of what the
/// gateway weighs.
const PAGE: u32 = 100;
/// What is referred to comes before what refers to it, if it comes in this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which kinds have been listed; each says so once, also when it can't be.
struct First {
    /// Those that others refer to.
    named: (u32, Semaphore),
    all: (u32, Semaphore),
}

impl First {
    const KINDS: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Secret];

    fn of(kinds: &[Kind]) -> Self {
        let watched = || kinds.iter().filter(|kind| **kind != Kind::Users);
        let named = watched().filter(|kind| Self::KINDS.contains(kind));
        Self {
            named: (named.map(|_| 1).sum(), Semaphore::new(0)),
            all: (watched().map(|_| 1).sum(), Semaphore::new(0)),
        }
    }

    fn listed(&self, kind: Kind) {
        self.all.1.add_permits(1);
        if Self::KINDS.contains(&kind) {
            self.named.1.add_permits(1);
        }
    }

    async fn named(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.named.1.acquire_many(self.named.0)).await;
    }

    async fn all(&self) {
        let _ = self.all.1.acquire_many(self.all.0).await;
    }
}

async fn watch<K>(
    client: Client,
    kind: Kind,
    config: watcher::Config,
    (to, first): (mpsc::Sender<Heard>, Arc<First>),
) where
    K: Resource<DynamicType = ()> + Parts + Into<Object> + Clone + Debug + 'static,
{
    let mut events = std::pin::pin!(watcher(Api::<Lean<K>>::all(client), config).default_backoff());
    let mut listed = HashSet::new();
    let mut failing = false;
    let mut says = true;
    if kind.refers() {
        first.named().await;
    }
    while let Some(event) = events.next().await {
        if says && matches!(event, Ok(Event::InitDone) | Err(_)) {
            says = false;
            first.listed(kind);
        }
        let change = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(object.object.id().clone());
                Change::Apply(Box::new(object.object))
            }
            Ok(Event::InitDone) => Change::Listed(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Change::Apply(Box::new(object.object)),
            Ok(Event::Delete(object)) => Change::Delete(kind, Id::of(object.meta())),
            Err(error) if kind.optional() && is_absent(&error) => {
                tracing::debug!(%kind, "the cluster doesn't have this kind; asking again");
                Change::Absent(kind)
            }
            Err(error) => {
                // Once when it begins; the retries are the same news.
                if !failing {
                    tracing::warn!(%kind, %error, "the watch has failed; going on with what is known");
                }
                failing = true;
                continue;
            }
        };
        if failing {
            failing = false;
            tracing::info!(%kind, "the watch is back");
        }
        if to.send((change, Instant::now())).await.is_err() {
            return;
        }
    }
}

fn is_absent(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 404
    )
}

/// Keeps the table's challenges as the system's Secrets with their label say: nobody
/// else can write these.
pub async fn challenges(client: Client, namespace: String, table: Arc<Table>) {
    let labelled = watcher::Config::default().labels(api::names::ACME_CHALLENGE_LABEL);
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    let mut events = std::pin::pin!(watcher(secrets, labelled).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(secret)) => {
                let name = secret.name_any();
                table.challenges.set(&name, Challenge::read(&secret));
                listed.insert(name);
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut listed);
                table.challenges.retain(|name| listed.contains(name));
            }
            Ok(Event::Apply(secret)) => {
                table.challenges.set(&secret.name_any(), Challenge::read(&secret));
            }
            Ok(Event::Delete(secret)) => table.challenges.set(&secret.name_any(), None),
            Err(error) => {
                tracing::debug!(%error, "the watch of challenges has failed; going on with what is known");
            }
        }
    }
}

/// Watches the Secrets with users, each by its name: of all others of a cluster
/// nobody here needs to know.
pub struct Users {
    client: Client,
    /// Whoever waits for the channel's end doesn't wait for us.
    to: mpsc::WeakSender<Heard>,
    watched: HashMap<Id, AbortHandle>,
    tasks: JoinSet<()>,
    seen: u64,
}

impl Users {
    pub fn new(client: &Client, to: &mpsc::Sender<Heard>) -> Self {
        Self {
            client: client.clone(),
            to: to.downgrade(),
            watched: HashMap::new(),
            tasks: JoinSet::new(),
            seen: 0,
        }
    }

    /// Watches what the index wants, and nothing else.
    pub fn keep(&mut self, index: &Index) {
        if self.seen == index.users_generation() {
            return;
        }
        self.seen = index.users_generation();
        self.watched.retain(|id, task| {
            let wanted = index.wants_users(id);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for id in index.wanted_users() {
            if !self.watched.contains_key(id) {
                let task = users(self.client.clone(), id.clone(), self.to.clone());
                self.watched.insert(id.clone(), self.tasks.spawn(task));
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn users(client: Client, id: Id, to: mpsc::WeakSender<Heard>) {
    let named = watcher::Config::default().fields(&format!("metadata.name={}", id.name));
    let secrets = Api::<Secret>::namespaced(client, &id.namespace);
    let mut events = std::pin::pin!(watcher(secrets, named).default_backoff());
    let mut there = false;
    while let Some(event) = events.next().await {
        let secret = match event {
            Ok(Event::Init) => {
                there = false;
                continue;
            }
            Ok(Event::InitDone) if there => continue,
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                there = true;
                Some(secret)
            }
            Ok(Event::InitDone | Event::Delete(_)) => None,
            Err(error) => {
                tracing::debug!(secret = %id, %error, "the watch of a Secret has failed; going on with what is known");
                continue;
            }
        };
        let change = Change::Apply(Box::new(Object::Users(object::Users::new(id.clone(), secret))));
        let Some(to) = to.upgrade() else { return };
        if to.send((change, Instant::now())).await.is_err() {
            return;
        }
    }
}
