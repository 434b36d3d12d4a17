//! What Atoll offers of what templates ask for.

use serde_json::Value;

use crate::app::{App, Link};
use crate::error::{Error, shorten};

/// The kinds that a template may make, by API group.
const OFFERED: [(&str, &[&str]); 8] = [
    ("", &["Service", "ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"]),
    ("apps", &["Deployment", "StatefulSet"]),
    ("batch", &["Job", "CronJob"]),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("gateway.networking.k8s.io", &["HTTPRoute"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("policy", &["PodDisruptionBudget"]),
];

/// Kinds that belong to the cluster and not to a workspace.
const CLUSTER: [&str; 20] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "APIService",
    "Node",
    "PersistentVolume",
    "StorageClass",
    "PriorityClass",
    "RuntimeClass",
    "IngressClass",
    "GatewayClass",
    "CSIDriver",
    "CertificateSigningRequest",
];

/// Database engines by what a KubeBlocks `Cluster` calls them.
const ENGINES: [(&str, &str); 8] = [
    ("postgresql", "PostgreSQL"),
    ("apecloud-mysql", "MySQL"),
    ("mysql", "MySQL"),
    ("redis", "Redis"),
    ("mongodb", "MongoDB"),
    ("kafka", "Kafka"),
    ("milvus", "Milvus"),
    ("weaviate", "Weaviate"),
];

/// Whether a workspace may hold everything the app is made of.
///
/// # Errors
/// [`Error::Unsupported`] names the first object that is not offered, belongs
/// to the cluster or names another namespace, or the first link that leads
/// anywhere but to a web page; and says why.
pub fn check_supported(app: &App) -> Result<(), Error> {
    app.objects.iter().try_for_each(|object| check_object(object, &app.namespace))?;
    app.links.iter().try_for_each(check_link)
}

fn check_object(object: &Value, namespace: &str) -> Result<(), Error> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let refuse = |reason: String| {
        Err(Error::Unsupported {
            api_version: shorten(api_version),
            kind: shorten(kind),
            name: text("/metadata/name").to_owned(),
            reason,
        })
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let offered = OFFERED.iter().any(|(known, kinds)| *known == group && kinds.contains(&kind));
    if !offered {
        return refuse(reason(object, group, kind));
    }
    match object.pointer("/metadata/namespace") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(named)) if named.is_empty() || named == namespace => Ok(()),
        Some(Value::String(named)) => refuse(format!(
            "it names the namespace `{}`, but the app goes to `{namespace}`; leave `metadata.namespace` out",
            shorten(named)
        )),
        Some(_) => refuse("its `metadata.namespace` is not a string; leave it out".to_owned()),
    }
}

/// Why a kind is not offered.
fn reason(object: &Value, group: &str, kind: &str) -> String {
    let is_group = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if is_group("kubeblocks.io") {
        return format!(
            "{} is not offered as a managed database; run one as a StatefulSet, or give the app the address of one",
            engine(object)
        );
    }
    if is_group("objectstorage.sealos.io") {
        return "object storage is not offered; give the app the address and keys of a bucket".to_owned();
    }
    if is_group("cert-manager.io") {
        return "certificates are the gateway's: every address has one; remove the object".to_owned();
    }
    if is_group("monitoring.coreos.com") || is_group("operator.victoriametrics.com") {
        return "monitoring by custom objects is not offered; remove the object".to_owned();
    }
    if CLUSTER.contains(&kind) {
        return "it belongs to the whole cluster and not to a workspace; remove it, or use a namespaced kind"
            .to_owned();
    }
    match kind {
        "DaemonSet" => "it would run on every node, which no workspace owns; use a Deployment".to_owned(),
        "Pod" | "ReplicaSet" | "ReplicationController" => {
            "nothing would look after it when a node fails; use a Deployment".to_owned()
        }
        "List" => "write its items as documents of their own".to_owned(),
        _ => {
            "this kind is not offered; remove it, or use a Deployment, StatefulSet, Job or Service".to_owned()
        }
    }
}

/// The database that a KubeBlocks object asks for.
fn engine(object: &Value) -> String {
    let named = ["/spec/clusterDefinitionRef", "/spec/clusterDef"]
        .iter()
        .chain(["/metadata/labels/clusterdefinition.kubeblocks.io~1name", "/spec/clusterVersionRef"].iter())
        .chain(["/spec/componentSpecs/0/componentDefRef", "/spec/componentSpecs/0/componentDef"].iter())
        .filter_map(|path| object.pointer(path).and_then(Value::as_str))
        .find(|name| !name.is_empty());
    let Some(named) = named else { return "this database".to_owned() };
    let known = ENGINES.iter().find(|(prefix, _)| named.starts_with(prefix));
    known.map_or_else(|| shorten(named), |(_, engine)| (*engine).to_owned())
}

/// A desktop follows links, so they lead to web pages and nowhere else.
fn check_link(link: &Link) -> Result<(), Error> {
    let lower = link.url.to_ascii_lowercase();
    let web = ["https://", "http://"].iter().any(|scheme| lower.starts_with(scheme));
    if web && !link.url.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Ok(());
    }
    Err(Error::Unsupported {
        api_version: "app.sealos.io/v1".to_owned(),
        kind: "App".to_owned(),
        name: link.name.clone(),
        reason: format!("its address `{}` is not a web page's; write one with https://", shorten(&link.url)),
    })
}
