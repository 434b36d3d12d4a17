//! Gateways: gives each a Service, which is its address, and tells the Gateway
//! API's objects how they are. What is told is the gateway's own reading of
//! them; only writing it down happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use gateway::entrance::{self, Desired};
use gateway::index::certificates::WantedCertificate;
use gateway::index::{Index, Problem, Scope};
use gateway::object::{Id, Kind};
use gateway::table::Table;
use gateway::watch::{self, Change};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as latest};
use tokio::time::{Duration, Instant};

use api::names::{GATEWAY_SERVICE, SYSTEM_NAMESPACE};

use super::FIELD_MANAGER;

/// Of each Ingress: the version that was told of something, and what that was.
type Told = BTreeMap<Id, (String, Vec<(&'static str, String)>)>;

/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(50);
/// How soon something that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked at what certificates are wanted.
const CERTIFICATES: Duration = Duration::from_secs(1);
/// What the API server takes of an event's note.
pub(super) const LONGEST_NOTE: usize = 1000;
/// Changes that wait; a full channel slows the watches down.
const WAITING: usize = 1024;

/// Watches what the gateways watch, but for endpoints, which no status tells of.
pub async fn run(client: Client, certificates: latest::Sender<Vec<WantedCertificate>>) -> anyhow::Result<()> {
    let (to, mut from) = mpsc::channel(WAITING);
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::EndpointSlice).collect();
    let _watches = watch::start(&client, &kinds, &to);
    let mut users = watch::Users::new(&client, &to);
    drop(to);
    let mut index = Index::new(Scope::default(), Arc::new(Table::default())).with_statuses();
    let mut missing: BTreeSet<Kind> = kinds.into_iter().collect();
    let mut waiting: BTreeMap<(Kind, Id), Instant> = BTreeMap::new();
    let mut told = Told::new();
    let mut looked = None;
    let mut tick = tokio::time::interval(CERTIFICATES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                users.keep(&index);
                for key in index.take_touched() {
                    waiting.entry(key).or_insert_with(|| Instant::now() + GATHER);
                }
            }
            _ = tick.tick(), if missing.is_empty() && looked != Some(index.generation()) => {
                looked = Some(index.generation());
                let wanted = index.wanted_certificates();
                certificates.send_if_modified(|before| {
                    let changed = *before != wanted;
                    *before = wanted;
                    changed
                });
            }
            () = sleep(next) => {
                let now = Instant::now();
                let due: Vec<_> =
                    waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
                for key in due {
                    waiting.remove(&key);
                    if let Err(error) = settle(&client, &mut index, &mut told, key.0, &key.1).await {
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
async fn settle(
    client: &Client,
    index: &mut Index,
    told: &mut Told,
    kind: Kind,
    id: &Id,
) -> anyhow::Result<()> {
    if kind == Kind::Gateway {
        serve(client, index, id).await?;
    }
    if kind == Kind::Ingress {
        return warn(client, index, told, id).await;
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

/// What an Ingress is told, each with the reason of its event.
fn notes(index: &Index, id: &Id) -> Vec<(&'static str, String)> {
    let lost = index.lost_hosts(Kind::Ingress, id);
    let all = |problems: &[Problem]| {
        let texts: Vec<_> = problems.iter().map(|problem| problem.0.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    // Whose they are is not for this one to know.
    let lost = (!lost.is_empty()).then(|| format!("{}: claimed by another workspace", lost.join(", ")));
    [
        ("HostClaimed", lost),
        ("NotServed", all(index.problems(Kind::Ingress, id))),
        ("ServedOtherwise", all(index.notes(Kind::Ingress, id))),
    ]
    .into_iter()
    .filter_map(|(reason, note)| {
        let mut note = note?;
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        Some((reason, note))
    })
    .collect()
}

/// An Ingress has no place for conditions: it is told by an event, once for each
/// of its versions.
async fn warn(client: &Client, index: &Index, told: &mut Told, id: &Id) -> anyhow::Result<()> {
    let notes = notes(index, id);
    if notes.is_empty() {
        told.remove(id);
        return Ok(());
    }
    let api: Api<Ingress> = Api::namespaced(client.clone(), &id.namespace);
    let Some(ingress) = api.get_opt(&id.name).await? else { return Ok(()) };
    let news = (ingress.resource_version().unwrap_or_default(), notes);
    if told.get(id) == Some(&news) {
        return Ok(());
    }
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    for (reason, note) in &news.1 {
        let event = Event {
            type_: EventType::Warning,
            reason: (*reason).to_owned(),
            note: Some(note.clone()),
            action: "Serve".to_owned(),
            secondary: None,
        };
        recorder.publish(&event, &ingress.object_ref(&())).await?;
    }
    told.insert(id.clone(), news);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(name: &str, annotations: &Value, path: &str) -> Ingress {
        let service = json!({ "name": "web", "port": { "number": 80 } });
        let path = json!({ "path": path, "pathType": "Prefix", "backend": { "service": service } });
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "a", "annotations": annotations },
            "spec": { "rules": [{ "host": "a.example", "http": { "paths": [path] } }] },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_served_is_told_apart_from_what_is_served_otherwise() {
        let mut index = Index::new(Scope::default(), Arc::new(Table::default()));
        let told = |index: &Index, name: &str| {
            let notes = notes(index, &Id::new("a", name));
            notes.into_iter().map(|(reason, note)| format!("{reason} {note}")).collect::<Vec<_>>()
        };
        index.apply(
            ingress("good", &json!({ "nginx.ingress.kubernetes.io/proxy-body-size": "8m" }), "/").into(),
        );
        assert_eq!(told(&index, "good"), [""; 0]);
        let annotations = json!({ "nginx.ingress.kubernetes.io/proxy-body-size": "much", "other/x": "y" });
        index.apply(ingress("odd", &annotations, "x").into());
        let all = told(&index, "odd");
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].starts_with("NotServed the path \"x\""), "{all:?}");
        assert!(all[1].starts_with("ServedOtherwise annotation proxy-body-size: \"much\""), "{all:?}");
        let long = json!({ "nginx.ingress.kubernetes.io/configuration-snippet": "\u{e9} x; ".repeat(500) });
        index.apply(ingress("long", &long, "/").into());
        assert!(told(&index, "long").iter().all(|note| note.len() < LONGEST_NOTE + 20));
    }
}
