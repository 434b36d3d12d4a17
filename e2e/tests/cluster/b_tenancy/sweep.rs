//! Every resource that the API server lists, for every role: what isn't expected
//! fails, and so does a resource that nobody has thought of.

use std::collections::{BTreeMap, BTreeSet};

use e2e::Person;
use serde_json::Value;

use super::attack::World;

/// What a role may do with a resource of its workspace, as the table below says it.
/// `r` get, list and watch; `w` create, update, patch, delete and deletecollection;
/// `x` get and create; `c` create; `g` get; `d` delete.
fn verbs(letters: &str) -> BTreeSet<&'static str> {
    let mut verbs = BTreeSet::new();
    for letter in letters.chars() {
        verbs.extend(match letter {
            'r' => &["get", "list", "watch"][..],
            'w' => &["create", "update", "patch", "delete", "deletecollection"],
            'x' => &["get", "create"],
            'c' => &["create"],
            'g' => &["get"],
            'd' => &["delete"],
            'm' => &["create", "update", "patch", "delete"],
            'i' => &["create", "delete"],
            _ => &[],
        });
    }
    verbs
}

/// In a workspace: resource, viewer, developer, manager. Whatever is listed by the
/// server and isn't here is for nobody, and stands in [`NOTHING`].
const WORKSPACE: &str = "
configmaps r rw rw
endpoints r r r
events r r r
limitranges r r r
persistentvolumeclaims r rw rw
pods r rw rw
pods/attach - x x
pods/ephemeralcontainers - gw gw
pods/eviction - c c
pods/exec - x x
pods/log r r r
pods/portforward - x x
pods/resize - gw gw
pods/status r r r
replicationcontrollers r rw rw
replicationcontrollers/scale - gw gw
resourcequotas r r r
secrets - rw rw
serviceaccounts r rw rw
services r rw rw
services/status r r r
controllerrevisions.apps r r r
daemonsets.apps r rw rw
daemonsets.apps/status r r r
deployments.apps r rw rw
deployments.apps/scale r rw rw
deployments.apps/status r r r
replicasets.apps r rw rw
replicasets.apps/scale r rw rw
replicasets.apps/status r r r
statefulsets.apps r rw rw
statefulsets.apps/scale r rw rw
statefulsets.apps/status r r r
horizontalpodautoscalers.autoscaling r rw rw
horizontalpodautoscalers.autoscaling/status r r r
cronjobs.batch r rw rw
cronjobs.batch/status r r r
jobs.batch r rw rw
jobs.batch/status r r r
endpointslices.discovery.k8s.io r r r
events.events.k8s.io r r r
grpcroutes.gateway.networking.k8s.io r rw rw
httproutes.gateway.networking.k8s.io r rw rw
tlsroutes.gateway.networking.k8s.io r rw rw
referencegrants.gateway.networking.k8s.io r rw rw
backendtlspolicies.gateway.networking.k8s.io r rw rw
pods.metrics.k8s.io r r r
ingresses.networking.k8s.io r rw rw
ingresses.networking.k8s.io/status r g g
networkpolicies.networking.k8s.io r rw rw
poddisruptionbudgets.policy r rw rw
poddisruptionbudgets.policy/status r r r
roles.rbac.authorization.k8s.io r r rw
rolebindings.rbac.authorization.k8s.io r r rw
instances.atoll.dev r rw rw
invitations.atoll.dev - - ri
members.atoll.dev rd rd rm
peerings.atoll.dev r r rm
";

/// For every account, anywhere: about themselves, and what policies narrow.
const EVERYBODY: &str = "
selfsubjectaccessreviews.authorization.k8s.io c
selfsubjectrulesreviews.authorization.k8s.io c
selfsubjectreviews.authentication.k8s.io c
acceptances.atoll.dev x
workspaces.atoll.dev m
";

/// What is for nobody. A resource that is new to the server belongs into one of
/// these lists.
const NOTHING: &str = include_str!("nothing.txt");

/// All verbs that a resource may be asked for, those of RBAC and of ours included.
const VERBS: [&str; 16] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "approve",
    "sign",
    "use",
    "appoint-manager",
    "appoint-owner",
];

/// Every resource of the server, as `name.group/subresource`.
fn resources(world: &World) -> BTreeSet<String> {
    let raw = |path: &str| -> Value {
        serde_json::from_str(&world.cluster.kubectl(&["get", "--raw", path]).ok()).unwrap()
    };
    let mut versions = vec![(String::new(), "/api/v1".to_string())];
    for group in raw("/apis")["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let version = version["groupVersion"].as_str().unwrap();
            versions.push((group["name"].as_str().unwrap().into(), format!("/apis/{version}")));
        }
    }
    let mut found = BTreeSet::new();
    for (group, path) in versions {
        for resource in raw(&path)["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let (name, subresource) =
                name.split_once('/').map_or((name, None), |(name, sub)| (name, Some(sub)));
            let mut full = if group.is_empty() { name.to_string() } else { format!("{name}.{group}") };
            if let Some(subresource) = subresource {
                full = format!("{full}/{subresource}");
            }
            found.insert(full);
        }
    }
    found
}

/// The rules that hold for somebody in a namespace.
fn rules(person: &Person, namespace: &str) -> Vec<Value> {
    let review = format!(
        r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{{"namespace":"{namespace}"}}}}"#
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), review).unwrap();
    let path = file.path().display().to_string();
    let said = person.kubectl(&["create", "--validate=false", "-o", "json", "-f", &path]).ok();
    let review: Value = serde_json::from_str(&said).unwrap();
    review["status"]["resourceRules"].as_array().unwrap().clone()
}

/// Which verbs the rules give, to all objects or to some.
fn given(rules: &[Value], resource: &str) -> BTreeSet<&'static str> {
    let (full, subresource) =
        resource.split_once('/').map_or((resource, None), |(full, sub)| (full, Some(sub)));
    let (name, group) = full.split_once('.').unwrap_or((full, ""));
    let wanted = subresource.map_or_else(|| name.to_string(), |sub| format!("{name}/{sub}"));
    let has = |rule: &Value, field: &str, one: &str| {
        rule[field].as_array().is_some_and(|all| all.iter().any(|each| each == "*" || each == one))
    };
    let any_sub = subresource.map(|sub| format!("*/{sub}"));
    let matching = rules.iter().filter(|rule| {
        has(rule, "apiGroups", group)
            && (has(rule, "resources", &wanted)
                || any_sub.as_ref().is_some_and(|sub| has(rule, "resources", sub)))
    });
    matching.flat_map(|rule| VERBS.into_iter().filter(|verb| has(rule, "verbs", verb))).collect()
}

#[test]
fn every_resource_of_the_server_for_every_role() {
    let world = World::shared();
    let all = resources(world);
    let mut expected: BTreeMap<&str, [BTreeSet<&str>; 3]> = BTreeMap::new();
    for line in WORKSPACE.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        expected.insert(words[0], [verbs(words[1]), verbs(words[2]), verbs(words[3])]);
    }
    let mut everybody: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in EVERYBODY.lines().filter(|line| !line.is_empty()) {
        let (resource, letters) = line.split_once(' ').unwrap();
        everybody.insert(resource, verbs(letters));
    }
    let nothing: BTreeSet<&str> =
        NOTHING.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();

    let mut wrong = Vec::new();
    for resource in &all {
        let resource = resource.as_str();
        if !expected.contains_key(resource)
            && !everybody.contains_key(resource)
            && !nothing.contains(resource)
        {
            wrong.push(format!("{resource} is new: say who may do what with it"));
        }
    }
    let people = [
        ("viewer", &world.viewer, Some(0)),
        ("developer", &world.developer, Some(1)),
        ("manager", &world.manager, Some(2)),
        ("outsider", &world.victim, None),
    ];
    for (role, person, column) in people {
        let rules = rules(person, &world.namespace);
        // A wildcard would give what is not there yet.
        for rule in &rules {
            let any =
                |field: &str| rule[field].as_array().is_some_and(|all| all.iter().any(|each| each == "*"));
            if any("verbs") || any("apiGroups") {
                wrong.push(format!("{role} has a wildcard: {rule}"));
            }
        }
        for resource in &all {
            let mut should = everybody.get(resource.as_str()).cloned().unwrap_or_default();
            if let (Some(column), Some(expected)) = (column, expected.get(resource.as_str())) {
                should.extend(&expected[column]);
            }
            let may = given(&rules, resource);
            if may != should {
                wrong.push(format!("{role} on {resource}: may {may:?}, should {should:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
