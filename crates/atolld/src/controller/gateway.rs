//! Gateways: gives each a Service, which is its address, and tells the Gateway
//! API's objects how they are. What is told is the gateway's own reading of
//! them; only writing it down happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use gateway::entrance::{self, Desired};
use gateway::index::{Index, Scope};
use gateway::object::{Id, Kind};
use gateway::table::Table;
use gateway::watch::{self, Change};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use api::names::{GATEWAY_SERVICE, SYSTEM_NAMESPACE};

use super::FIELD_MANAGER;

/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(50);
/// How soon something that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What the API server takes of an event's note.
const LONGEST_NOTE: usize = 1000;
/// Changes that wait; a full channel slows the watches down.
const WAITING: usize = 1024;

/// Watches what the gateways watch, but for endpoints, which no status tells of.
pub async fn run(client: Client) -> anyhow::Result<()> {
    let (to, mut from) = mpsc::channel(WAITING);
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::EndpointSlice).collect();
    let _watches = watch::start(&client, &kinds, &to);
    drop(to);
    let mut index = Index::new(Scope::default(), Arc::new(Table::default())).with_statuses();
    let mut missing: BTreeSet<Kind> = kinds.into_iter().collect();
    let mut waiting: BTreeMap<(Kind, Id), Instant> = BTreeMap::new();
    loop {
        let next = waiting.values().min().copied().filter(|_| missing.is_empty());
        tokio::select! {
            heard = from.recv() => {
                let (change, _) = heard.context("the watches ended")?;
                match change {
                    Change::Apply(object) => index.apply(*object),
                    Change::Delete(kind, id) => index.delete(kind, &id),
                    Change::Listed(kind, listed) => {
                        index.retain(kind, &listed);
                        missing.remove(&kind);
                    }
                    Change::Absent(kind) => {
                        missing.remove(&kind);
                    }
                }
                for key in index.take_touched() {
                    waiting.entry(key).or_insert_with(|| Instant::now() + GATHER);
                }
            }
            () = sleep(next) => {
                let now = Instant::now();
                let due: Vec<_> =
                    waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
                for key in due {
                    waiting.remove(&key);
                    if let Err(error) = settle(&client, &mut index, key.0, &key.1).await {
                        tracing::warn!(kind = %key.0, object = %key.1, %error, "telling how it is");
                        waiting.insert(key, Instant::now() + AGAIN);
                    }
                }
            }
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Makes one object's Service and status what they have to be.
async fn settle(client: &Client, index: &mut Index, kind: Kind, id: &Id) -> anyhow::Result<()> {
    if kind == Kind::Gateway {
        serve(client, index, id).await?;
    }
    if kind == Kind::Ingress {
        return warn(client, index, id).await;
    }
    let Some(api) = resource(client, kind, &id.namespace) else { return Ok(()) };
    let Some(current) = api.get_opt(&id.name).await? else { return Ok(()) };
    let status = current.data.get("status").cloned().unwrap_or(Value::Null);
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let Some(wanted) = index.status(kind, id, &status, &now) else { return Ok(()) };
    // What somebody else has written meanwhile is not written over.
    let patch = json!({ "metadata": { "resourceVersion": current.resource_version() }, "status": wanted });
    match api.patch_status(&id.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An Ingress has no place for conditions: it is told by an event.
async fn warn(client: &Client, index: &Index, id: &Id) -> anyhow::Result<()> {
    let lost = index.lost_hosts(Kind::Ingress, id);
    let problems = index.problems(Kind::Ingress, id);
    let mut notes = Vec::new();
    if !lost.is_empty() {
        // Whose they are is not for this one to know.
        notes.push(("HostClaimed", format!("{}: claimed by another workspace", lost.join(", "))));
    }
    if !problems.is_empty() {
        let all: Vec<_> = problems.iter().map(|problem| problem.0.as_str()).collect();
        notes.push(("NotServed", all.join("; ")));
    }
    if notes.is_empty() {
        return Ok(());
    }
    let api: Api<Ingress> = Api::namespaced(client.clone(), &id.namespace);
    let Some(ingress) = api.get_opt(&id.name).await? else { return Ok(()) };
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    for (reason, mut note) in notes {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Serve".to_owned(),
            secondary: None,
        };
        recorder.publish(&event, &ingress.object_ref(&())).await?;
    }
    Ok(())
}

/// The kinds whose status is ours to write.
fn resource(client: &Client, kind: Kind, namespace: &str) -> Option<Api<DynamicObject>> {
    let (name, plural) = match kind {
        Kind::GatewayClass => ("GatewayClass", "gatewayclasses"),
        Kind::Gateway => ("Gateway", "gateways"),
        Kind::HttpRoute => ("HTTPRoute", "httproutes"),
        Kind::GrpcRoute => ("GRPCRoute", "grpcroutes"),
        Kind::TlsRoute => ("TLSRoute", "tlsroutes"),
        Kind::BackendTlsPolicy => ("BackendTLSPolicy", "backendtlspolicies"),
        _ => return None,
    };
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", name);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Some(match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

/// Gives a Gateway its Service, or takes it away.
async fn serve(client: &Client, index: &mut Index, id: &Id) -> anyhow::Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    match index.entrance(id) {
        Desired::Kept => Ok(()),
        Desired::Made(wanted) => {
            let service = entrance::service(id, &wanted);
            let name = entrance::service_name(id);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let made = services.patch(&name, &params, &Patch::Apply(&service)).await?;
            // The next Gateway must not be given its ports before the watch tells.
            index.apply(made.into());
            tracing::info!(gateway = %id, service = name, "gave a Gateway its Service");
            Ok(())
        }
        Desired::Full => {
            anyhow::bail!("no port is left for its listeners: remove Gateways that are not used")
        }
        Desired::Gone(names) => {
            // The shared one is the installation's.
            for name in names.into_iter().filter(|name| name != GATEWAY_SERVICE) {
                match services.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => tracing::info!(gateway = %id, service = name, "took a Gateway's Service away"),
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        }
    }
}
