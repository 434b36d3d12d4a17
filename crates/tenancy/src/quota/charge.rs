//! What an object uses, by the names of resources that quotas have.
//!
//! The names are those of Kubernetes' ResourceQuota, and an object counts as it does
//! there: a pod by the most that it may ask for at once, a claim by its class, a
//! Service by the ports that it takes on nodes.

use std::collections::{BTreeMap, BTreeSet};

use api::{Measure, SharedQuotaSpec};
use serde_json::Value;

use super::amount::{Amounts, ONE, add, parse};
use super::expression::{self, Fault};

/// What a set of quotas asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The resources that have a limit somewhere.
    pub names: BTreeSet<String>,
    /// What is measured of objects, by name.
    pub measures: BTreeMap<String, Measure>,
}

/// The kinds of Kubernetes' own that use more than their number.
const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const SERVICES: &str = "services";

/// Kinds that a ResourceQuota also knows without `count/`.
const COUNTED_BY_NAME: [&str; 7] =
    [PODS, CLAIMS, SERVICES, "secrets", "configmaps", "replicationcontrollers", "resourcequotas"];

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";

impl Interest {
    /// What quotas ask about.
    pub fn of<'a>(quotas: impl IntoIterator<Item = &'a SharedQuotaSpec>) -> Self {
        let mut interest = Self::default();
        for quota in quotas {
            interest.names.extend(quota.hard.keys().cloned());
            interest
                .measures
                .extend(quota.measures.iter().map(|(name, measure)| (name.clone(), measure.clone())));
        }
        interest
    }

    /// The kinds of which objects use any of it, such as `pods` or
    /// `databases.example.com`.
    pub fn kinds(&self) -> BTreeSet<String> {
        let mut kinds = BTreeSet::new();
        for name in &self.names {
            kinds.insert(if let Some(measure) = self.measures.get(name) {
                measure.resource.clone()
            } else if let Some(kind) = name.strip_prefix("count/") {
                kind.to_owned()
            } else if name.starts_with("services") {
                SERVICES.into()
            } else if name == CLAIMS || name == "requests.storage" || name.contains(CLASS_SUFFIX) {
                CLAIMS.into()
            } else if COUNTED_BY_NAME.contains(&name.as_str()) {
                name.clone()
            } else {
                PODS.into()
            });
        }
        kinds
    }

    /// Whether what an object of this kind uses can change after it was made.
    pub fn changes(&self, kind: &str) -> bool {
        [PODS, CLAIMS, SERVICES].contains(&kind)
            || self.measures.values().any(|measure| measure.resource == kind)
    }

    /// What an object of a kind uses, as far as anybody asks.
    pub fn charge(&self, kind: &str, object: &Value) -> Amounts {
        let mut amounts = Amounts::from([(format!("count/{kind}"), ONE)]);
        if COUNTED_BY_NAME.contains(&kind) && kind != PODS {
            amounts.insert(kind.into(), ONE);
        }
        match kind {
            PODS => pod(object, &mut amounts),
            CLAIMS => claim(object, &mut amounts),
            SERVICES => service(object, &mut amounts),
            _ => {}
        }
        for (name, measure) in self.measures.iter().filter(|(_, measure)| measure.resource == kind) {
            // Nothing that is there gives room to others; one that can't be told isn't let in.
            let amount = measured(object, measure).unwrap_or_default().max(0);
            add(&mut amounts, &Amounts::from([(name.clone(), amount)]));
        }
        amounts.retain(|name, amount| *amount != 0 && self.names.contains(name));
        amounts
    }

    /// The first of what is measured of an object that can't be told of it, and why.
    pub fn unmeasured(&self, kind: &str, object: &Value) -> Option<(&str, Fault)> {
        let asked = self
            .measures
            .iter()
            .filter(|(name, measure)| measure.resource == kind && self.names.contains(*name));
        asked.into_iter().find_map(|(name, measure)| Some((name.as_str(), measured(object, measure).err()?)))
    }

    /// The first measure that can't be told of anything, and why.
    pub fn unreadable(&self) -> Option<(&str, Fault)> {
        let expressions =
            self.measures.iter().filter_map(|(name, measure)| Some((name, measure.expression.as_ref()?)));
        expressions
            .into_iter()
            .find_map(|(name, expression)| Some((name.as_str(), expression::check(expression).err()?)))
    }

    /// What a pod has to say and doesn't: what has a limit can't be asked for without
    /// an amount.
    pub fn unsaid(&self, kind: &str, object: &Value) -> Vec<&str> {
        if kind != PODS {
            return Vec::new();
        }
        let says = |name: &str| {
            let (field, resource) = match name.split_once('.') {
                Some(("limits", resource)) => ("limits", resource),
                Some(("requests", resource)) => ("requests", resource),
                _ => ("requests", name),
            };
            let pod_wide = !object["spec"]["resources"][field][resource].is_null();
            pod_wide
                || lists(object, &["containers", "initContainers"])
                    .all(|container| !container["resources"][field][resource].is_null())
        };
        // Other resources are used by who names them.
        let plain = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
        let asked = self.names.iter().map(String::as_str).filter(|name| plain.contains(name));
        asked.filter(|name| !says(name)).collect()
    }
}

fn lists<'a>(object: &'a Value, names: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    names.iter().flat_map(move |list| object["spec"][*list].as_array().into_iter().flatten())
}

/// The most that a pod may have at once. Init containers run one after another, beside
/// those that stay (their `restartPolicy` is `Always`).
fn pod(object: &Value, amounts: &mut Amounts) {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if phase == "Succeeded" || phase == "Failed" {
        return;
    }
    amounts.insert(PODS.into(), ONE);
    for field in ["requests", "limits"] {
        for (resource, amount) in effective(object, field) {
            if field == "requests" && !resource.contains('/') && !resource.starts_with("hugepages-") {
                amounts.insert(resource.clone(), amount);
            }
            amounts.insert(format!("{field}.{resource}"), amount);
        }
    }
}

fn effective(pod: &Value, field: &str) -> Amounts {
    let of = |container: &Value| {
        let mut own = quantities(&container["resources"][field]);
        if field == "requests" {
            // A pod that grows in place has what it had until it has what it asks for.
            let name = &container["name"];
            let statuses = ["containerStatuses", "initContainerStatuses"]
                .into_iter()
                .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
            for status in statuses.filter(|status| status["name"] == *name) {
                most(&mut own, &quantities(&status["allocatedResources"]));
            }
        }
        own
    };
    let mut stays = Amounts::new();
    let mut peak = Amounts::new();
    for container in lists(pod, &["initContainers"]) {
        if container["restartPolicy"] == "Always" {
            add(&mut stays, &of(container));
            most(&mut peak, &stays);
        } else {
            let mut step = stays.clone();
            add(&mut step, &of(container));
            most(&mut peak, &step);
        }
    }
    for container in lists(pod, &["containers"]) {
        add(&mut stays, &of(container));
    }
    most(&mut peak, &stays);
    // What is said of the pod as a whole counts for it.
    peak.extend(quantities(&pod["spec"]["resources"][field]));
    let overhead = quantities(&pod["spec"]["overhead"]);
    for (resource, amount) in overhead {
        // A container without a limit has none with an overhead either.
        if field == "requests" || peak.contains_key(&resource) {
            *peak.entry(resource).or_default() += amount;
        }
    }
    peak
}

fn most(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = of.entry(name.clone()).or_default();
        *own = (*own).max(*amount);
    }
}

fn quantities(value: &Value) -> Amounts {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

/// A quantity as it stands in JSON: text or a number.
fn quantity(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

fn claim(object: &Value, amounts: &mut Amounts) {
    let asked = quantity(&object["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
    // While it grows it has what it was given already.
    let given = quantity(&object["status"]["allocatedResources"]["storage"]).unwrap_or_default();
    let storage = asked.max(given);
    amounts.insert("requests.storage".into(), storage);
    let annotation = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = object["spec"]["storageClassName"].as_str().or(annotation.as_str()).unwrap_or_default();
    if !class.is_empty() {
        amounts.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), storage);
        amounts.insert(format!("{class}{CLASS_SUFFIX}{CLAIMS}"), ONE);
    }
}

fn service(object: &Value, amounts: &mut Amounts) {
    let spec = &object["spec"];
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let ports = i128::try_from(ports).unwrap_or_default() * ONE;
    match spec["type"].as_str() {
        Some("NodePort") => drop(amounts.insert("services.nodeports".into(), ports)),
        Some("LoadBalancer") => {
            amounts.insert("services.loadbalancers".into(), ONE);
            if spec["allocateLoadBalancerNodePorts"] != false {
                amounts.insert("services.nodeports".into(), ports);
            }
        }
        _ => {}
    }
}

fn measured(object: &Value, measure: &Measure) -> Result<i128, Fault> {
    if let Some(expression) = &measure.expression {
        return expression::measure(expression, object);
    }
    let parts = measure.field.split('.').filter(|part| !part.is_empty());
    Ok(quantity(parts.fold(object, |value, part| &value[part])).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn interest(names: &[&str]) -> Interest {
        Interest { names: names.iter().map(ToString::to_string).collect(), ..Interest::default() }
    }

    fn container(cpu: &str) -> Value {
        json!({ "name": cpu, "resources": { "requests": { "cpu": cpu }, "limits": { "cpu": cpu } } })
    }

    #[track_caller]
    fn charges(names: &[&str], kind: &str, object: &Value, wanted: &[(&str, i128)]) {
        let wanted: Amounts = wanted.iter().map(|(name, amount)| (name.to_string(), *amount)).collect();
        assert_eq!(interest(names).charge(kind, object), wanted);
    }

    #[test]
    fn a_pod_uses_the_most_that_it_may_have_at_once() {
        let pod = json!({ "spec": {
            "initContainers": [container("900m"), { "restartPolicy": "Always", "resources": { "requests": { "cpu": "100m" } } }, container("300m")],
            "containers": [container("200m"), container("250m")],
        } });
        // 900 alone, 100 + 300, 100 + 200 + 250.
        charges(
            &["requests.cpu", "cpu", "pods"],
            "pods",
            &pod,
            &[("requests.cpu", 900), ("cpu", 900), ("pods", 1000)],
        );
        let pod = json!({ "spec": {
            "initContainers": [{ "restartPolicy": "Always", "resources": { "requests": { "cpu": "100m" } } }],
            "containers": [container("200m"), container("250m")],
            "overhead": { "cpu": "50m" },
        } });
        charges(&["requests.cpu", "limits.cpu"], "pods", &pod, &[("requests.cpu", 600), ("limits.cpu", 500)]);
    }

    #[test]
    fn a_pod_that_has_ended_is_there_and_uses_nothing() {
        let pod = json!({ "spec": { "containers": [container("1")] }, "status": { "phase": "Succeeded" } });
        charges(&["pods", "requests.cpu", "count/pods"], "pods", &pod, &[("count/pods", 1000)]);
    }

    #[test]
    fn a_pod_that_grows_uses_the_larger() {
        let pod = json!({
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "memory": "1Mi" } } }] },
            "status": { "containerStatuses": [{ "name": "c", "allocatedResources": { "memory": "2Mi" } }] },
        });
        charges(&["memory"], "pods", &pod, &[("memory", 2_097_152_000)]);
    }

    #[test]
    fn devices_count_by_their_name() {
        let pod = json!({ "spec": { "containers": [
            { "resources": { "requests": { "example.com/gpu": "2" }, "limits": { "example.com/gpu": 2 } } },
        ] } });
        charges(&["requests.example.com/gpu"], "pods", &pod, &[("requests.example.com/gpu", 2000)]);
    }

    #[test]
    fn a_claim_uses_storage_of_its_class() {
        let claim = json!({ "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "1Gi" } } } });
        let names = [
            "requests.storage",
            "persistentvolumeclaims",
            "fast.storageclass.storage.k8s.io/requests.storage",
            "slow.storageclass.storage.k8s.io/requests.storage",
        ];
        let gi = 1_073_741_824_000;
        charges(
            &names,
            "persistentvolumeclaims",
            &claim,
            &[(names[0], gi), (names[1], 1000), (names[2], gi)],
        );
    }

    #[test]
    fn a_service_uses_ports_of_nodes() {
        let service = |kind: &str| json!({ "spec": { "type": kind, "ports": [{}, {}] } });
        let names = ["services", "services.nodeports", "services.loadbalancers"];
        charges(&names, "services", &service("ClusterIP"), &[("services", 1000)]);
        charges(
            &names,
            "services",
            &service("NodePort"),
            &[("services", 1000), ("services.nodeports", 2000)],
        );
        let all = [("services", 1000), ("services.nodeports", 2000), ("services.loadbalancers", 1000)];
        charges(&names, "services", &service("LoadBalancer"), &all);
    }

    #[test]
    fn other_objects_count_and_are_measured() {
        let mut interest = interest(&["count/databases.example.com", "example.com/size", "count/secrets"]);
        let measure =
            Measure { resource: "databases.example.com".into(), field: "spec.size".into(), expression: None };
        interest.measures.insert("example.com/size".into(), measure);
        assert_eq!(interest.kinds(), ["databases.example.com", "secrets"].map(String::from).into());
        assert!(interest.changes("databases.example.com") && !interest.changes("secrets"));
        for (size, amount) in
            [(json!("5Gi"), 5_368_709_120_000), (json!(3), 3000), (json!("-1"), 0), (json!([]), 0)]
        {
            let database = json!({ "spec": { "size": size } });
            let charge = interest.charge("databases.example.com", &database);
            assert_eq!(charge["count/databases.example.com"], 1000);
            assert_eq!(charge.get("example.com/size").copied().unwrap_or_default(), amount);
        }
    }

    #[test]
    fn what_has_a_limit_has_to_be_said() {
        let interest = interest(&["limits.memory", "requests.cpu", "pods"]);
        let pod = json!({ "spec": { "containers": [container("1"), { "name": "silent" }] } });
        assert_eq!(interest.unsaid("pods", &pod), ["limits.memory", "requests.cpu"]);
        let pod = json!({ "spec": {
            "containers": [container("1")],
            "resources": { "limits": { "memory": "1Gi" } },
        } });
        assert!(interest.unsaid("pods", &pod).is_empty());
    }
}
