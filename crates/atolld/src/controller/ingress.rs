//! Tells each Ingress of our class the address it is reached at.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;

use api::names::{GATEWAY_CONTROLLER, GATEWAY_SERVICE, SYSTEM_NAMESPACE};

/// Whether an Ingress is ours: its class is served by our gateway, or it names
/// none.
fn is_ours(ingress: &Ingress, ours: &[String]) -> bool {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    // The way to name a class before there was a field for it.
    match named.or_else(|| ingress.annotations().get("kubernetes.io/ingress.class")) {
        Some(class) => ours.contains(class),
        None => true,
    }
}

fn addresses(ingress: &Ingress) -> Vec<String> {
    let points = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
    points.unwrap_or_default().into_iter().filter_map(|point| point.ip).collect()
}

fn service_addresses(service: &Service) -> Vec<String> {
    let points = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
    points.unwrap_or_default().into_iter().filter_map(|point| point.ip).collect()
}

/// Watches Ingresses, and the gateway whose address they are given.
pub async fn run(client: Client) -> anyhow::Result<()> {
    let (ingresses, writer) = reflector::store::<Ingress>();
    let all = Api::<Ingress>::all(client.clone());
    let mut changes = Box::pin(
        watcher(all, watcher::Config::default()).default_backoff().reflect(writer).applied_objects(),
    );
    let services = Api::<Service>::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let named = watcher::Config::default().fields(&format!("metadata.name={GATEWAY_SERVICE}"));
    let mut gateways = Box::pin(watcher(services, named).default_backoff().applied_objects());
    let classes = Api::<IngressClass>::all(client.clone());
    let mut classes =
        Box::pin(watcher(classes, watcher::Config::default()).default_backoff().applied_objects());

    let mut ours: Vec<String> = Vec::new();
    let mut wanted: Vec<String> = Vec::new();
    loop {
        let changed: Vec<Ingress> = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(ingress)) => vec![ingress],
                Some(Err(error)) => { tracing::warn!(%error, "watching ingresses"); continue }
                None => anyhow::bail!("the watch of ingresses ended"),
            },
            change = gateways.next() => match change {
                Some(Ok(service)) => {
                    wanted = service_addresses(&service);
                    ingresses.state().iter().map(|ingress| (**ingress).clone()).collect()
                }
                Some(Err(error)) => { tracing::warn!(%error, "watching the gateway's service"); continue }
                None => anyhow::bail!("the watch of the gateway's service ended"),
            },
            change = classes.next() => match change {
                Some(Ok(class)) => {
                    let name = class.name_any();
                    let controller = class.spec.and_then(|spec| spec.controller);
                    ours.retain(|other| *other != name);
                    if controller.as_deref() == Some(GATEWAY_CONTROLLER) {
                        ours.push(name);
                    }
                    ingresses.state().iter().map(|ingress| (**ingress).clone()).collect()
                }
                Some(Err(error)) => { tracing::warn!(%error, "watching ingress classes"); continue }
                None => anyhow::bail!("the watch of ingress classes ended"),
            },
        };
        for ingress in changed {
            if !wanted.is_empty() && is_ours(&ingress, &ours) && addresses(&ingress) != wanted {
                write(&client, &ingress, &wanted).await;
            }
        }
    }
}

async fn write(client: &Client, ingress: &Ingress, wanted: &[String]) {
    let points: Vec<_> = wanted.iter().map(|ip| json!({ "ip": ip })).collect();
    let status = json!({ "status": { "loadBalancer": { "ingress": points } } });
    let api: Api<Ingress> = Api::namespaced(client.clone(), &ingress.namespace().unwrap_or_default());
    let (name, patch) = (ingress.name_any(), Patch::Merge(&status));
    if let Err(error) = api.patch_status(&name, &PatchParams::default(), &patch).await {
        // It may be gone already; otherwise its next change tries again.
        tracing::warn!(ingress = name, %error, "writing an ingress's address");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(class: Option<&str>) -> Ingress {
        serde_json::from_value(json!({ "spec": { "ingressClassName": class } })).unwrap()
    }

    #[test]
    fn only_ingresses_of_our_classes_are_written() {
        let ours = ["atoll".to_string(), "nginx".to_string()];
        assert!(is_ours(&ingress(None), &ours));
        assert!(is_ours(&ingress(Some("nginx")), &ours));
        assert!(!is_ours(&ingress(Some("other")), &ours));
    }
}
