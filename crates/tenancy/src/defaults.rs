//! What is meant where nothing is named: a plan's own classes, and the nodes that its
//! pods run on. Pure: the controller writes it beside what the plan allows, and
//! admission fills it in before the policies look.

use std::collections::BTreeMap;

use api::PlanSpec;
use api::names::{DEFAULTS_LABEL, POLICY_PREFIX, WORKSPACE_LABEL};
use serde_json::{Value, json};

use crate::review::{self, Review};

/// The path of what is asked about what is made in a workspace with defaults.
pub const PATH: &str = "/defaults";

/// Annotation with the labels that a pod's node must have, `KEY=VALUE,...`.
const NODE_SELECTOR: &str = "node-selector";

/// A kind of class of which a plan may have a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of claims.
    Storage,
    /// Of Ingresses.
    Ingress,
    /// Of pods.
    Priority,
    /// Of pods; the cluster has no own.
    Runtime,
}

impl Class {
    const ALL: [Self; 4] = [Self::Storage, Self::Ingress, Self::Priority, Self::Runtime];

    const fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Ingress => "ingress",
            Self::Priority => "priority",
            Self::Runtime => "runtime",
        }
    }

    /// Where an object names it.
    const fn field(self) -> &'static str {
        match self {
            Self::Storage => "storageClassName",
            Self::Ingress => "ingressClassName",
            Self::Priority => "priorityClassName",
            Self::Runtime => "runtimeClassName",
        }
    }

    /// The kinds of objects that name it.
    fn of(resource: &str) -> &'static [Self] {
        match resource {
            "pods" => &[Self::Priority, Self::Runtime],
            "persistentvolumeclaims" => &[Self::Storage],
            "ingresses" => &[Self::Ingress],
            _ => &[],
        }
    }

    fn default_of(self, plan: &PlanSpec) -> Option<&str> {
        let defaults = &plan.defaults;
        let (default, allowed) = match self {
            Self::Storage => (&defaults.storage_class, &plan.storage_classes),
            Self::Ingress => (&defaults.ingress_class, &plan.ingress_classes),
            Self::Priority => (&defaults.priority_class, &plan.priority_classes),
            Self::Runtime => (&defaults.runtime_class, &plan.runtime_classes),
        };
        default.as_deref().filter(|name| self.is_among(name, allowed.iter().map(String::as_str)))
    }

    /// Of priority and runtime classes none stands for any.
    fn is_among<'a>(self, name: &str, mut allowed: impl Iterator<Item = &'a str>) -> bool {
        let any = matches!(self, Self::Storage | Self::Ingress);
        allowed.any(|one| one == name || (any && one == "*"))
    }

    fn default_annotation(self) -> String {
        format!("{POLICY_PREFIX}default-{}-class", self.name())
    }

    fn allowed_annotation(self) -> String {
        format!("{POLICY_PREFIX}{}-classes", self.name())
    }
}

/// What the namespace of a workspace with this plan says of it. One that the plan
/// doesn't allow is left out: it would only be refused.
pub fn annotations(plan: &PlanSpec) -> BTreeMap<String, String> {
    let classes = Class::ALL.into_iter().filter_map(|class| {
        let default = class.default_of(plan)?;
        Some((class.default_annotation(), default.to_owned()))
    });
    let nodes: Vec<String> =
        plan.node_selector.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let nodes = (!nodes.is_empty()).then(|| (format!("{POLICY_PREFIX}{NODE_SELECTOR}"), nodes.join(",")));
    classes.chain(nodes).collect()
}

/// What is told of a namespace by its annotations.
pub type Told = BTreeMap<String, String>;

/// A class that an object names although the plan doesn't allow it, with its kind: if the
/// cluster's own default is of that name, nobody has chosen it.
pub fn doubtful(review: &Review, told: &Told) -> Vec<(Class, String)> {
    let object = &review.request.object;
    let classes = Class::of(&review.request.resource.resource).iter();
    let doubtful = classes.filter_map(|class| {
        told.get(&class.default_annotation())?;
        let named = named(object, *class)?;
        let allowed = told.get(&class.allowed_annotation()).map_or("", String::as_str);
        (!class.is_among(named, allowed.split(','))).then(|| (*class, named.to_owned()))
    });
    doubtful.collect()
}

fn named(object: &Value, class: Class) -> Option<&str> {
    object["spec"][class.field()].as_str().filter(|name| !name.is_empty())
}

/// The namespace and the kind that a question is about.
pub fn namespace(review: &Review) -> &str {
    &review.request.namespace
}

/// The answer: allowed, with what is filled in. `by_cluster` are classes that Kubernetes
/// has filled in, by its own defaults, before.
pub fn answer(review: &Review, told: &Told, by_cluster: &[Class]) -> Value {
    let object = &review.request.object;
    let resource = review.request.resource.resource.as_str();
    let mut changes = Vec::new();
    for class in Class::of(resource) {
        let Some(default) = told.get(&class.default_annotation()) else { continue };
        let by_annotation = *class == Class::Ingress
            && object["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_string();
        if by_annotation || (named(object, *class).is_some() && !by_cluster.contains(class)) {
            continue;
        }
        changes.push(json!({ "op": "add", "path": format!("/spec/{}", class.field()), "value": default }));
        if *class == Class::Priority {
            // What followed from no class, or from the cluster's; Kubernetes looks again.
            let stale = ["priority", "preemptionPolicy"].into_iter();
            changes.extend(
                stale
                    .filter(|field| !object["spec"][*field].is_null())
                    .map(|field| json!({ "op": "remove", "path": format!("/spec/{field}") })),
            );
        }
    }
    if resource == "pods" {
        let nodes = told.get(&format!("{POLICY_PREFIX}{NODE_SELECTOR}"));
        changes.extend(choose_nodes(object, nodes.map_or("", String::as_str)));
    }
    review.change(&changes)
}

/// What the pod says otherwise stays, for the policy to refuse.
fn choose_nodes(pod: &Value, nodes: &str) -> Vec<Value> {
    let wanted = nodes.split(',').filter_map(|label| label.split_once('='));
    match pod["spec"]["nodeSelector"].as_object() {
        Some(chosen) => wanted
            .filter(|(label, _)| !chosen.contains_key(*label))
            .map(|(label, value)| {
                // As a JSON pointer has it.
                let label = label.replace('~', "~0").replace('/', "~1");
                json!({ "op": "add", "path": format!("/spec/nodeSelector/{label}"), "value": value })
            })
            .collect(),
        None => {
            let wanted: BTreeMap<&str, &str> = wanted.collect();
            let change = json!({ "op": "add", "path": "/spec/nodeSelector", "value": wanted });
            if wanted.is_empty() { Vec::new() } else { vec![change] }
        }
    }
}

/// The webhook as it is registered.
pub(crate) fn webhook(authority: &str) -> Value {
    let rule = |group: &str, resources: &[&str]| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1"], "resources": resources,
            "operations": ["CREATE"], "scope": "Namespaced",
        })
    };
    let more = json!({
        "reinvocationPolicy": "IfNeeded",
        "namespaceSelector": { "matchExpressions": [
            { "key": WORKSPACE_LABEL, "operator": "Exists" },
            { "key": DEFAULTS_LABEL, "operator": "Exists" },
        ] },
        "rules": [
            rule("", &["pods", "persistentvolumeclaims"]),
            rule("networking.k8s.io", &["ingresses"]),
        ],
    });
    review::webhook("defaults.admission.atoll.dev", PATH, authority, more)
}

#[cfg(test)]
mod tests {
    use api::ClassDefaults;

    use super::*;

    fn plan() -> PlanSpec {
        let some = |name: &str| Some(name.to_owned());
        PlanSpec {
            storage_classes: vec!["gold".into()],
            priority_classes: vec!["low".into(), "*".into()],
            runtime_classes: vec!["vm".into()],
            defaults: ClassDefaults {
                storage_class: some("gold"),
                ingress_class: some("atoll"),
                priority_class: some("low"),
                runtime_class: some("vm"),
            },
            node_selector: [("pool", "a"), ("example.com/disk", "ssd")]
                .map(|(label, value)| (label.into(), value.into()))
                .into(),
            ..PlanSpec::default()
        }
    }

    /// What the namespace says: what is allowed, too.
    fn told(plan: &PlanSpec) -> Told {
        let mut told = annotations(plan);
        told.insert("policy.atoll.dev/storage-classes".into(), plan.storage_classes.join(","));
        told.insert("policy.atoll.dev/priority-classes".into(), plan.priority_classes.join(","));
        told
    }

    fn review(resource: &str, object: &Value) -> Review {
        let request = json!({ "uid": "u", "resource": { "resource": resource }, "object": object });
        serde_json::from_value(json!({ "request": request })).unwrap()
    }

    #[track_caller]
    fn changes(resource: &str, object: &Value, by_cluster: &[Class], wanted: &[&str]) {
        let answer = answer(&review(resource, object), &told(&plan()), by_cluster);
        assert_eq!(answer["response"]["allowed"], true);
        let patch: k8s_openapi::ByteString =
            serde_json::from_value(answer["response"]["patch"].clone()).unwrap_or_default();
        let patch: Vec<Value> = serde_json::from_slice(&patch.0).unwrap_or_default();
        let text = |one: &Value| {
            let word = |name: &str| one[name].as_str().unwrap_or_default();
            format!("{} {} {}", word("op"), word("path"), one["value"])
        };
        assert_eq!(patch.iter().map(text).collect::<Vec<_>>(), wanted, "{object}");
    }

    #[test]
    fn a_plan_tells_what_it_allows_and_no_more() {
        let told = annotations(&plan());
        let wanted = [
            ("default-ingress-class", "atoll"),
            ("default-priority-class", "low"),
            ("default-runtime-class", "vm"),
            ("default-storage-class", "gold"),
            ("node-selector", "example.com/disk=ssd,pool=a"),
        ];
        let wanted = wanted.map(|(name, value)| (format!("policy.atoll.dev/{name}"), value.to_owned()));
        assert_eq!(told, wanted.into());
        let none = PlanSpec {
            storage_classes: vec!["silver".into()],
            ingress_classes: Vec::new(),
            // Not any, here.
            priority_classes: vec!["*".into()],
            runtime_classes: Vec::new(),
            node_selector: BTreeMap::new(),
            ..plan()
        };
        assert!(annotations(&none).is_empty());
        assert!(annotations(&PlanSpec::default()).is_empty());
    }

    #[test]
    fn a_pod_that_names_nothing_gets_the_plans_classes_and_nodes() {
        changes(
            "pods",
            &json!({ "spec": { "priority": 0, "preemptionPolicy": "PreemptLowerPriority" } }),
            &[],
            &[
                r#"add /spec/priorityClassName "low""#,
                "remove /spec/priority null",
                "remove /spec/preemptionPolicy null",
                r#"add /spec/runtimeClassName "vm""#,
                r#"add /spec/nodeSelector {"example.com/disk":"ssd","pool":"a"}"#,
            ],
        );
    }

    #[test]
    fn what_is_named_stays() {
        let pod = json!({ "spec": {
            "priorityClassName": "high", "priority": 9, "runtimeClassName": "x", "nodeSelector": { "pool": "b" },
        } });
        changes("pods", &pod, &[], &[r#"add /spec/nodeSelector/example.com~1disk "ssd""#]);
        changes("persistentvolumeclaims", &json!({ "spec": { "storageClassName": "gold" } }), &[], &[]);
        changes("ingresses", &json!({ "spec": { "ingressClassName": "nginx" } }), &[], &[]);
        let old = json!({ "metadata": { "annotations": { "kubernetes.io/ingress.class": "nginx" } } });
        changes("ingresses", &old, &[], &[]);
        // Nothing else has classes, or nodes.
        changes("services", &json!({ "spec": {} }), &[], &[]);
    }

    #[test]
    fn the_clusters_own_default_gives_way_to_the_plans() {
        let claim = json!({ "spec": { "storageClassName": "standard" } });
        let doubt = doubtful(&review("persistentvolumeclaims", &claim), &told(&plan()));
        assert_eq!(doubt, [(Class::Storage, "standard".to_owned())]);
        changes("persistentvolumeclaims", &claim, &[], &[]);
        let filled = [r#"add /spec/storageClassName "gold""#];
        changes("persistentvolumeclaims", &claim, &[Class::Storage], &filled);
        changes("persistentvolumeclaims", &json!({ "spec": {} }), &[], &filled);
        // Nobody has to look where the plan allows what is named, or has no default.
        let asked = |plan: &PlanSpec, class: &str| {
            let claim = json!({ "spec": { "storageClassName": class } });
            !doubtful(&review("persistentvolumeclaims", &claim), &told(plan)).is_empty()
        };
        assert!(!asked(&plan(), "gold"));
        let any = PlanSpec { storage_classes: vec!["*".into()], ..plan() };
        assert!(!asked(&any, "standard"));
        assert!(!asked(&PlanSpec { defaults: ClassDefaults::default(), ..plan() }, "standard"));
    }
}
