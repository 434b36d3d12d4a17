//! The API server's objects as a stream of [`Change`]s, one task for each kind.
//!
//! With the API server away the streams are silent and what is known stays.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::gateway_api::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TLSRoute,
};
use crate::index::Index;
use crate::object::{self, Id, Kind, Object};

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

/// Watches kinds, as long as the set is kept.
pub fn start(client: &Client, kinds: &[Kind], to: &mpsc::Sender<Heard>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for kind in kinds {
        let (client, to) = (client.clone(), to.clone());
        let any = watcher::Config::default();
        match kind {
            Kind::Ingress => tasks.spawn(watch::<Ingress>(client, *kind, any, to)),
            Kind::HttpRoute => tasks.spawn(watch::<HTTPRoute>(client, *kind, any, to)),
            Kind::GrpcRoute => tasks.spawn(watch::<GRPCRoute>(client, *kind, any, to)),
            Kind::TlsRoute => tasks.spawn(watch::<TLSRoute>(client, *kind, any, to)),
            Kind::Gateway => tasks.spawn(watch::<Gateway>(client, *kind, any, to)),
            Kind::GatewayClass => tasks.spawn(watch::<GatewayClass>(client, *kind, any, to)),
            Kind::ReferenceGrant => tasks.spawn(watch::<ReferenceGrant>(client, *kind, any, to)),
            Kind::BackendTlsPolicy => tasks.spawn(watch::<BackendTLSPolicy>(client, *kind, any, to)),
            Kind::Namespace => tasks.spawn(watch::<Namespace>(client, *kind, any, to)),
            Kind::Service => tasks.spawn(watch::<Service>(client, *kind, any, to)),
            Kind::EndpointSlice => tasks.spawn(watch::<EndpointSlice>(client, *kind, any, to)),
            Kind::Secret => {
                let tls = any.fields("type=kubernetes.io/tls");
                tasks.spawn(watch::<Secret>(client, *kind, tls, to))
            }
            Kind::ConfigMap => {
                // Every namespace has this one, and no backend is verified by it.
                let others = any.fields("metadata.name!=kube-root-ca.crt");
                tasks.spawn(watch::<ConfigMap>(client, *kind, others, to))
            }
            // One by one, as they are wanted.
            Kind::Users => continue,
        };
    }
    tasks
}

async fn watch<K>(client: Client, kind: Kind, config: watcher::Config, to: mpsc::Sender<Heard>)
where
    K: Resource<DynamicType = ()> + Into<Object> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(Api::<K>::all(client), config).default_backoff());
    let mut listed = HashSet::new();
    let mut failing = false;
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                let object: Object = object.into();
                listed.insert(object.id().clone());
                Change::Apply(Box::new(object))
            }
            Ok(Event::InitDone) => Change::Listed(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Change::Apply(Box::new(object.into())),
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
