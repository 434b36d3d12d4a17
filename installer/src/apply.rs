//! Applying objects to a cluster.

use std::time::{Duration, Instant};

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, ApiResource, Scope};
use kube::{Client, Config};
use serde_json::Value;

use crate::progress::Progress;
use crate::{Error, Result};

/// The name under which our changes are known to the API server.
pub const FIELD_MANAGER: &str = "atoll";

/// How long an object may be refused because something is still starting.
const STARTING_LIMIT: Duration = Duration::from_secs(60);

/// A client for the cluster whose administrator's kubeconfig is given.
pub async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let unusable = |reason: String| Error::Machine {
        what: format!("{} can't be used: {reason}", kubeconfig.display()),
        remedy: "run `atoll up` to make it anew".into(),
    };
    let text =
        kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(error.to_string()))?;
    let mut config = Config::from_custom_kubeconfig(text, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(error.to_string()))?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(|error| unusable(error.to_string()))
}

/// Finds how the cluster serves a kind, remembering what it found.
#[derive(Default)]
pub struct Kinds {
    known: std::collections::HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Kinds {
    /// The API for one object's kind, in its namespace or in `namespace`.
    pub async fn api(
        &mut self,
        client: &Client,
        object: &Value,
        namespace: &str,
    ) -> Result<Api<DynamicObject>> {
        let field = |name: &str| object[name].as_str().unwrap_or_default().to_string();
        let (version, kind) = (field("apiVersion"), field("kind"));
        let (group, version) = match version.split_once('/') {
            Some((group, version)) => (group.to_string(), version.to_string()),
            None => (String::new(), version),
        };
        let wanted = GroupVersionKind { group, version, kind };
        if !self.known.contains_key(&wanted) {
            let found = discovery::pinned_kind(client, &wanted).await.map_err(Error::kubernetes(format!(
                "looking up the kind {} of {}/{}",
                wanted.kind, wanted.group, wanted.version
            )))?;
            self.known.insert(wanted.clone(), found);
        }
        let (resource, capabilities) = &self.known[&wanted];
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), resource),
            Scope::Namespaced => {
                let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
                Api::namespaced_with(client.clone(), own, resource)
            }
        })
    }
}

/// How an object is called in messages.
pub fn describe(object: &Value) -> String {
    format!(
        "{} {}",
        object["kind"].as_str().unwrap_or("object"),
        object["metadata"]["name"].as_str().unwrap_or("without a name")
    )
}

/// Applies objects in their order, each by server-side apply, and returns them
/// as they are stored.
pub async fn apply(
    client: &Client,
    objects: &[Value],
    namespace: &str,
    progress: &dyn Progress,
) -> Result<Vec<DynamicObject>> {
    let mut kinds = Kinds::default();
    let mut stored = Vec::with_capacity(objects.len());
    for (index, object) in objects.iter().enumerate() {
        let what = describe(object);
        progress.update(&what, Some(index as u64), Some(objects.len() as u64));
        // A new kind is served a moment after its definition was accepted.
        let started = Instant::now();
        let api = loop {
            match kinds.api(client, object, namespace).await {
                Ok(api) => break api,
                Err(error) if started.elapsed() > Duration::from_secs(15) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let name = object["metadata"]["name"]
            .as_str()
            .ok_or_else(|| Error::Manifest { name: what.clone(), reason: "it needs metadata.name".into() })?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let started = Instant::now();
        let applied = loop {
            match api.patch(name, &parameters, &Patch::Apply(object)).await {
                Err(error) if is_passing(&error) && started.elapsed() < STARTING_LIMIT => {
                    progress.update(&format!("{what}: {error}"), None, None);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                answer => break answer,
            }
        };
        stored.push(applied.map_err(Error::kubernetes(format!("applying {what}")))?);
    }
    Ok(stored)
}

/// Whether an error may be over when what the API server stands on, etcd and the
/// webhooks, has started.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let answered = |code| {
            let status = kube::core::Status { code, ..Default::default() };
            is_passing(&kube::Error::Api(Box::new(status)))
        };
        assert!([429, 500, 503, 504].into_iter().all(answered));
        assert!(![400, 403, 404, 409, 422].into_iter().any(answered));
        assert!(!is_passing(&kube::Error::LinesCodecMaxLineLengthExceeded));
    }
}
