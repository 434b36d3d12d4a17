//! What has to be in a workspace's namespace, from the workspace, its members
//! and its plan. Pure: the same input gives the same objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use api::names::{
    CORDONED_LABEL, DEFAULTS_LABEL, POLICY_PREFIX, ROLE_PREFIX, SHARED_QUOTA_LABEL, SHARED_QUOTAS_ANNOTATION,
    SUSPENDED_LABEL, SYSTEM_NAMESPACE, WORKSPACE_LABEL, user,
};
use api::peering::PEERS_ANNOTATION;
use api::{PlanSpec, Role};

use crate::defaults;
use crate::peering::{self, Peer};
use crate::propagation::Key;

/// Label on every object that is kept as the workspace says: tenants may not
/// change those, which an admission policy sees to.
pub const MANAGED_LABEL: &str = "atoll.dev/managed";

/// What a workspace's objects are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input<'a> {
    /// The workspace's name.
    pub workspace: &'a str,
    /// Its uid: the namespace is gone when it is.
    pub uid: &'a str,
    /// Its namespace's name.
    pub namespace: &'a str,
    /// Everybody's role in it: the owner's, its members', and that of those who are
    /// members above it.
    pub roles: BTreeMap<String, Role>,
    /// What it may use, of which all plans above it allow the same.
    pub plan: Option<&'a PlanSpec>,
    /// The shared quotas in which it has a part.
    pub quotas: Vec<String>,
    /// With whom its pods may talk besides.
    pub peers: Vec<Peer>,
    /// Whether its people may make nothing new in it.
    pub cordoned: bool,
    /// Whether nothing may run in it.
    pub suspended: bool,
    /// Ranges of addresses that are no part of the internet: pods, services,
    /// nodes, private networks.
    pub inside: &'a [String],
    /// The authority of front's certificate, in PEM, for pods to believe.
    pub authority: Option<&'a str>,
}

/// What the quota and the limits of the plan are named.
const PLAN: &str = "plan";

/// The ConfigMap with the authority of front's certificate.
pub const AUTHORITY: &str = "atoll-ca";

/// The namespace itself. It belongs to the workspace and goes with it.
pub fn namespace(input: &Input<'_>) -> Value {
    let pod_security = input.plan.map(|plan| plan.pod_security).unwrap_or_default().name();
    let mut labels = json!({
        WORKSPACE_LABEL: input.workspace,
        "pod-security.kubernetes.io/enforce": pod_security,
        "pod-security.kubernetes.io/enforce-version": "latest",
        "pod-security.kubernetes.io/warn": pod_security,
    });
    for (label, wanted) in [(CORDONED_LABEL, input.cordoned), (SUSPENDED_LABEL, input.suspended)] {
        if wanted {
            labels[label] = "true".into();
        }
    }
    let mut annotations = policy(input.plan);
    let defaults = input.plan.map(defaults::annotations).unwrap_or_default();
    if !defaults.is_empty() {
        labels[DEFAULTS_LABEL] = "true".into();
        annotations.extend(defaults);
    }
    if !input.quotas.is_empty() {
        labels[SHARED_QUOTA_LABEL] = "true".into();
        annotations.insert(SHARED_QUOTAS_ANNOTATION.into(), input.quotas.join(","));
    }
    annotations.extend(peering::annotation(&input.peers).map(|peers| (PEERS_ANNOTATION.into(), peers)));
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": input.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": format!("{}/{}", api::names::GROUP, api::names::VERSION),
                "kind": "Workspace",
                "name": input.workspace,
                "uid": input.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        }
    })
}

/// What the plan allows, as the admission policies and the gateways read it. Of names an
/// annotation that is not there allows none.
fn policy(plan: Option<&PlanSpec>) -> BTreeMap<String, String> {
    let Some(plan) = plan else { return BTreeMap::new() };
    [
        ("registries", &plan.registries),
        ("storage-classes", &plan.storage_classes),
        ("ingress-classes", &plan.ingress_classes),
        ("gateway-classes", &plan.gateway_classes),
        ("gateways", &plan.gateways),
        ("priority-classes", &plan.priority_classes),
        ("runtime-classes", &plan.runtime_classes),
        ("node-labels", &plan.node_labels),
        ("tolerations", &plan.tolerations),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| (format!("{POLICY_PREFIX}{what}"), names.join(",")))
    .chain(plan.gateway.annotations())
    .collect()
}

/// What is in the namespace. Quota and policies come before the rights by which
/// anybody could make something that they don't see.
pub fn objects(input: &Input<'_>) -> Vec<Value> {
    let mut objects = vec![isolation(input)];
    objects.extend(input.authority.map(|pem| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(input, AUTHORITY),
            // Under the name by which pods mount it.
            "data": { "ca.crt": pem },
        })
    }));
    objects.extend(input.plan.map(|plan| quota(input, plan)));
    objects.extend(input.plan.and_then(|plan| limits(input, plan)));
    objects.extend(BOUND.iter().filter_map(|role| binding(input, *role)));
    objects
}

/// What must not be there: the bindings of roles that nobody has, and limits that the plan
/// doesn't name. Without a plan limits stay.
pub fn absent(input: &Input<'_>) -> Vec<Key> {
    let nobody = BOUND.iter().filter(|role| holders(input, **role).is_empty());
    let mut absent: Vec<Key> = nobody.map(|role| ("RoleBinding".to_owned(), binding_name(*role))).collect();
    if input.plan.is_some_and(|plan| limits(input, plan).is_none()) {
        absent.push(("LimitRange".to_owned(), PLAN.to_owned()));
    }
    absent
}

/// The roles that have a ClusterRole: all. The last bound is the owner's.
const BOUND: [Role; 4] = Role::ALL;

/// Who is bound to a role's ClusterRole: an owner's and a manager's say only what
/// each has beyond the one below, while a developer's says all of it.
fn holders(input: &Input<'_>, role: Role) -> BTreeSet<String> {
    let holds = |held: Role| if role == Role::Viewer { held == role } else { held >= role };
    input.roles.iter().filter(|(_, held)| holds(**held)).map(|(account, _)| account.clone()).collect()
}

fn metadata(input: &Input<'_>, name: &str) -> Value {
    json!({ "name": name, "namespace": input.namespace, "labels": { MANAGED_LABEL: "true" } })
}

fn binding_name(role: Role) -> String {
    format!("{ROLE_PREFIX}{}", role.name())
}

fn binding(input: &Input<'_>, role: Role) -> Option<Value> {
    let subjects: Vec<Value> = holders(input, role)
        .iter()
        .map(|account| {
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user(account) })
        })
        .collect();
    if subjects.is_empty() {
        return None;
    }
    Some(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(input, &binding_name(role)),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": binding_name(role),
        },
        "subjects": subjects,
    }))
}

fn quota(input: &Input<'_>, plan: &PlanSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata(input, PLAN),
        "spec": { "hard": plan.hard },
    })
}

fn limits(input: &Input<'_>, plan: &PlanSpec) -> Option<Value> {
    if plan.default_limit.is_empty() && plan.default_request.is_empty() {
        return None;
    }
    Some(json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": metadata(input, PLAN),
        "spec": { "limits": [{
            "type": "Container",
            "default": plan.default_limit,
            "defaultRequest": plan.default_request,
        }] },
    }))
}

/// The second of two fences: the first is in the kernel, on each pod's link. From
/// outside only the gateway comes in; out go names, the gateway and the internet. Which
/// ports peers reach the first one says: between them this one has but two sides.
fn isolation(input: &Input<'_>) -> Value {
    let own = json!({ "podSelector": {} });
    let pods = |namespace: &str, labels: Value| {
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "podSelector": { "matchLabels": labels },
        })
    };
    let gateway = pods(SYSTEM_NAMESPACE, json!({ "app": "gateway" }));
    let front = pods(SYSTEM_NAMESPACE, json!({ "app": "front" }));
    let names = pods("kube-system", json!({ "k8s-app": "kube-dns" }));
    let peer = |peer: &Peer| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": peer.namespace } } });
    let mut from = vec![own.clone(), gateway.clone()];
    from.extend(input.peers.iter().filter(|peer| !peer.allow.is_empty()).map(peer));
    let mut to = vec![own, gateway, front];
    to.extend(input.peers.iter().filter(|peer| peer.is_open).map(peer));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(input, "isolation"),
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": from }],
            "egress": [
                { "to": to },
                { "to": [names], "ports": [
                    { "protocol": "UDP", "port": 53 },
                    { "protocol": "TCP", "port": 53 },
                ] },
                { "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": input.inside } }] },
            ],
        }
    })
}

#[cfg(test)]
mod tests {
    use api::GatewayLimits;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    /// A workspace of ada's.
    fn input<'a>(members: &[(&str, Role)], plan: Option<&'a PlanSpec>) -> Input<'a> {
        let owner = [("ada", Role::Owner)];
        Input {
            workspace: "shop",
            uid: "u-1",
            namespace: "shop-bcdfgh",
            roles: members.iter().chain(&owner).map(|(account, role)| (account.to_string(), *role)).collect(),
            plan,
            quotas: Vec::new(),
            peers: Vec::new(),
            inside: &[],
            cordoned: false,
            suspended: false,
            authority: None,
        }
    }

    fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    fn subjects(objects: &[Value], role: &str) -> Vec<String> {
        let Some(binding) = find(objects, "RoleBinding", role) else { return Vec::new() };
        let subjects = binding["subjects"].as_array().unwrap();
        subjects.iter().map(|subject| subject["name"].as_str().unwrap().to_string()).collect()
    }

    #[test]
    fn every_member_is_bound_to_what_their_role_holds() {
        let members = [("bob", Role::Developer), ("cy", Role::Viewer), ("al", Role::Manager)];
        let objects = objects(&input(&members, None));
        assert_eq!(subjects(&objects, "atoll:owner"), ["atoll:ada"]);
        assert_eq!(subjects(&objects, "atoll:manager"), ["atoll:ada", "atoll:al"]);
        assert_eq!(subjects(&objects, "atoll:developer"), ["atoll:ada", "atoll:al", "atoll:bob"]);
        assert_eq!(subjects(&objects, "atoll:viewer"), ["atoll:cy"]);
        assert!(absent(&input(&members, None)).is_empty());
    }

    #[test]
    fn a_role_that_nobody_has_is_not_bound() {
        let nobody = Input { roles: BTreeMap::from([("cy".into(), Role::Viewer)]), ..input(&[], None) };
        let names: Vec<String> = absent(&nobody).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["atoll:developer", "atoll:manager", "atoll:owner"]);
        assert!(find(&objects(&nobody), "RoleBinding", "atoll:manager").is_none());
    }

    #[test]
    fn limits_go_when_the_plan_no_longer_names_any() {
        let none = PlanSpec::default();
        let some = PlanSpec {
            default_limit: BTreeMap::from([("cpu".into(), Quantity("1".into()))]),
            ..none.clone()
        };
        let members = [("cy", Role::Viewer)];
        let is_absent = |plan| absent(&input(&members, plan)) == [("LimitRange".into(), "plan".into())];
        assert!(is_absent(Some(&none)));
        assert!(!is_absent(Some(&some)) && !is_absent(None));
    }

    #[test]
    fn fences_come_before_rights() {
        let plan = PlanSpec::default();
        let objects = objects(&input(&[], Some(&plan)));
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        let bindings = ["RoleBinding"; 3];
        assert_eq!(kinds, [&["NetworkPolicy", "ResourceQuota"][..], &bindings].concat());
    }

    #[test]
    fn a_workspace_without_a_plan_is_restricted() {
        let namespace = namespace(&input(&[], None));
        let labels = &namespace["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        assert_eq!(labels[WORKSPACE_LABEL], "shop");
        // Policies read what isn't there as "nothing is allowed".
        assert_eq!(namespace["metadata"]["annotations"], json!({}));
    }

    #[test]
    fn what_a_plan_allows_is_told_to_the_policies() {
        let plan = PlanSpec {
            registries: vec!["docker.io/library".into(), "quay.io".into()],
            node_labels: vec!["disk".into()],
            gateway: GatewayLimits {
                requests_per_second: Some(100),
                bytes_per_second: Some(0),
                ..GatewayLimits::default()
            },
            ..PlanSpec::default()
        };
        let namespace = namespace(&input(&[], Some(&plan)));
        let wanted = json!({
            "policy.atoll.dev/registries": "docker.io/library,quay.io",
            "policy.atoll.dev/storage-classes": "*",
            "policy.atoll.dev/ingress-classes": "atoll,nginx",
            "policy.atoll.dev/gateway-classes": "atoll",
            "policy.atoll.dev/gateways": "atoll-system/gateway",
            "policy.atoll.dev/node-labels": "disk",
            "policy.atoll.dev/gateway-requests": "100",
            "policy.atoll.dev/gateway-bytes": "0",
        });
        assert_eq!(namespace["metadata"]["annotations"], wanted);
    }

    #[test]
    fn a_workspace_at_rest_says_so_to_the_policies() {
        let labels = |cordoned, suspended| {
            let input = Input { cordoned, suspended, ..input(&[], None) };
            let labels = namespace(&input)["metadata"]["labels"].clone();
            (labels.get(CORDONED_LABEL).is_some(), labels.get(SUSPENDED_LABEL).is_some())
        };
        assert_eq!(labels(false, false), (false, false));
        assert_eq!(labels(true, false), (true, false));
        assert_eq!(labels(false, true), (false, true));
    }

    #[test]
    fn a_workspace_with_a_part_in_a_quota_asks_it() {
        assert!(namespace(&input(&[], None))["metadata"]["labels"].get(SHARED_QUOTA_LABEL).is_none());
        let shared = Input { quotas: vec!["ada".into(), "tree".into()], ..input(&[], None) };
        let metadata = namespace(&shared)["metadata"].clone();
        assert_eq!(metadata["labels"][SHARED_QUOTA_LABEL], "true");
        assert_eq!(metadata["annotations"][SHARED_QUOTAS_ANNOTATION], "ada,tree");
    }

    #[test]
    fn only_peers_are_let_through_and_each_way_by_who_allows_it() {
        let plain = objects(&input(&[], None));
        let plain = find(&plain, "NetworkPolicy", "isolation").unwrap();
        let lists = |policy: &Value| {
            let count = |list: &Value| list.as_array().unwrap().len();
            (count(&policy["spec"]["ingress"][0]["from"]), count(&policy["spec"]["egress"][0]["to"]))
        };
        assert_eq!(lists(plain), (2, 3));
        assert_eq!(namespace(&input(&[], None))["metadata"]["annotations"], json!({}));
        let peer = |namespace: &str, allow, is_open| Peer { namespace: namespace.into(), allow, is_open };
        let check = |peer: Peer, wanted: (usize, usize), is_told: bool| {
            let with = Input { peers: vec![peer], ..input(&[], None) };
            let objects = objects(&with);
            let policy = find(&objects, "NetworkPolicy", "isolation").unwrap();
            assert_eq!(lists(policy), wanted);
            let selector = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "bank-x" } } });
            let text = policy["spec"].to_string();
            assert_eq!(text.matches(&selector.to_string()).count(), wanted.0 + wanted.1 - 5);
            let annotations = &namespace(&with)["metadata"]["annotations"];
            assert_eq!(annotations.get("policy.atoll.dev/peers").is_some(), is_told);
        };
        let all = || vec![api::peering::Allowed::default()];
        check(peer("bank-x", all(), false), (3, 3), true);
        check(peer("bank-x", Vec::new(), true), (2, 4), false);
        check(peer("bank-x", all(), true), (3, 4), true);
        check(peer("bank-x", Vec::new(), false), (2, 3), false);
    }

    #[test]
    fn the_internet_is_what_is_not_inside() {
        let inside = ["10.0.0.0/8".to_string(), "169.254.0.0/16".to_string()];
        let objects = objects(&Input { inside: &inside, ..input(&[], None) });
        let policy = find(&objects, "NetworkPolicy", "isolation").unwrap();
        assert_eq!(policy["spec"]["egress"][2]["to"][0]["ipBlock"]["except"], json!(inside));
        assert_eq!(policy["spec"]["ingress"].as_array().unwrap().len(), 1);
    }
}
