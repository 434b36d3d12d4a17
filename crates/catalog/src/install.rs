//! Puts an app into a namespace, with the rights of whoever installs it.

use std::collections::{BTreeMap, HashMap};

use api::names::INSTANCE_LABEL;
use api::{Instance, InstanceSpec};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::{App, Context, Error, Random, Template, check_supported, claim, references};

/// The name under which changes are known to the API server.
const FIELD_MANAGER: &str = "atoll";

/// Why an app was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The template, or a value given for it.
    #[error(transparent)]
    Template(#[from] Error),
    /// There is an app of that name.
    #[error("there is an app `{0}` already: uninstall it, or give this one another name")]
    Exists(String),
    /// An object that isn't the app's own to make.
    #[error("{0} belongs to no namespace: a template can make only what is in a workspace")]
    ClusterScoped(String),
    /// The API server refused something.
    #[error("{action}: {}", said(cause))]
    Kubernetes {
        /// What was tried.
        action: String,
        /// What it said.
        cause: Box<kube::Error>,
    },
}

/// What the API server said, without how the library frames it.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(kube::Error) -> InstallError {
    let action = action.into();
    move |cause| InstallError::Kubernetes { action, cause: Box::new(cause) }
}

/// Installs an app and returns its record. When something of it is refused, what
/// there was of it goes again.
pub async fn install(
    client: &Client,
    template: &Template,
    values: &BTreeMap<String, String>,
    context: &Context,
    random: &mut (dyn Random + Send),
) -> Result<Instance, InstallError> {
    let mut random = || random.next();
    let mut app = template.evaluate(values, context, &mut random)?;
    check_supported(&app)?;
    let mut instance = Instance::new(
        &app.name,
        InstanceSpec {
            template: template.name().into(),
            title: template.about().title.clone(),
            objects: references(&app),
        },
    );
    instance.labels_mut().insert(INSTANCE_LABEL.into(), app.name.clone());
    let instances: Api<Instance> = Api::namespaced(client.clone(), &context.namespace);
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let stored = match instances.create(&parameters, &instance).await {
        Ok(stored) => stored,
        Err(kube::Error::Api(answer)) if answer.code == 409 => return Err(InstallError::Exists(app.name)),
        Err(error) => return Err(failed(format!("recording the app {}", app.name))(error)),
    };
    claim(&mut app, &stored.uid().unwrap_or_default());
    match apply(client, &app, &context.namespace).await {
        Ok(()) => Ok(stored),
        Err(error) => {
            // Its objects are owned by it and go with it.
            if let Err(error) = instances.delete(&app.name, &DeleteParams::background()).await {
                tracing::warn!(%error, app = app.name, "half an app is left: uninstall it");
            }
            Err(error)
        }
    }
}

async fn apply(client: &Client, app: &App, namespace: &str) -> Result<(), InstallError> {
    let mut known: HashMap<GroupVersionKind, ApiResource> = HashMap::new();
    for object in &app.objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind, name) =
            (text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]));
        let what = format!("{kind} {name}");
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let wanted = GroupVersionKind::gvk(group, version, &kind);
        if !known.contains_key(&wanted) {
            let found = discovery::pinned_kind(client, &wanted).await;
            let (resource, capabilities) =
                found.map_err(failed(format!("looking up the kind {kind} of {group}/{version}")))?;
            if capabilities.scope == Scope::Cluster {
                return Err(InstallError::ClusterScoped(what));
            }
            known.insert(wanted.clone(), resource);
        }
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &known[&wanted]);
        let parameters = PatchParams::apply(FIELD_MANAGER);
        objects
            .patch(&name, &parameters, &Patch::Apply(object))
            .await
            .map_err(failed(format!("applying {what}")))?;
    }
    Ok(())
}
