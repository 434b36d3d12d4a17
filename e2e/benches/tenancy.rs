//! How tenancy grows: workspaces at 100, 1000 and 10,000, on one controller.
//!
//! Brings up a cluster of its own, or uses the one that `ATOLL_E2E_SHARED` names, and
//! prints a table for `docs/benchmarks/tenancy.md`. `ATOLL_BENCH_WORKSPACES` says other
//! numbers.

// What goes wrong ends it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Account, AccountSpec, Member, MemberSpec, Role, SharedQuota, Workspace, WorkspaceSpec};
use e2e::{Cluster, Guard, Person};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::json;

/// Requests under way at once while objects are made.
const AT_ONCE: usize = 16;
/// How often each time is measured.
const SAMPLES: usize = 100;

fn main() {
    // `cargo bench` says `--bench`, `cargo test` doesn't.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cluster, _guard) = match std::env::var("ATOLL_E2E_SHARED") {
        Ok(name) => (Cluster::named(&name), None),
        Err(_) => {
            let cluster = Cluster::named("bench");
            let guard = Guard(cluster.clone());
            cluster.atoll(&["up"]).ok();
            (cluster, Some(guard))
        }
    };
    let told = std::env::var("ATOLL_BENCH_WORKSPACES");
    let counts = told.unwrap_or_else(|_| "100,1000,10000".into());
    let counts: Vec<usize> = counts.split(',').map(|count| count.parse().unwrap()).collect();
    runtime.block_on(run(&cluster, &counts));
}

async fn client(kubeconfig: &std::path::Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    Client::try_from(Config::from_custom_kubeconfig(config, &options).await.unwrap()).unwrap()
}

async fn run(cluster: &Cluster, counts: &[usize]) {
    let admin = client(&cluster.directory().join("admin.conf")).await;
    let olga = Person::alone(cluster, "olga");
    cluster.atoll(&["account", "limit", "olga", "100000"]).ok();
    cluster.atoll(&["plan", "set", "bench", "--hard", "pods=100000"]).ok();
    // A node's own work for so many policies is measured elsewhere: here the objects count.
    let away = json!({ "spec": { "template": { "spec": { "nodeSelector": { "example.com/none": "" } } } } });
    let daemons: Api<DaemonSet> = Api::namespaced(admin.clone(), "kube-system");
    daemons.patch("network-policy", &PatchParams::default(), &Patch::Merge(away)).await.unwrap();
    let person = client(&olga.kubeconfig()).await;
    let mut there = 0;
    for count in counts {
        grow(&admin, there, *count).await;
        there = *count;
        println!("## {count} workspaces of {} accounts", accounts(*count));
        tokio::time::sleep(Duration::from_secs(10)).await;
        println!("controller: {:.0} MiB resident", resident(cluster, "controller"));
        until_a_pod(&admin, &person).await;
        one_change(&admin, *count).await;
        restart(cluster, &admin, *count).await;
    }
    admission(&admin, &person).await;
    olga.leave();
}

fn accounts(workspaces: usize) -> usize {
    (workspaces / 10).max(1)
}

fn account(index: usize) -> String {
    format!("bench-{index}")
}

fn workspace(index: usize) -> String {
    format!("bench-{index}")
}

/// Makes accounts and workspaces, and waits until all are ready.
async fn grow(admin: &Client, from: usize, to: usize) {
    let started = Instant::now();
    let everybody: Api<Account> = Api::all(admin.clone());
    stream::iter(if from == 0 { 0 } else { accounts(from) }..accounts(to))
        .for_each_concurrent(AT_ONCE, |index| {
            let everybody = everybody.clone();
            async move {
                let spec = AccountSpec { workspace_limit: Some(1000), ..AccountSpec::default() };
                everybody.create(&PostParams::default(), &Account::new(&account(index), spec)).await.unwrap();
            }
        })
        .await;
    let all: Api<Workspace> = Api::all(admin.clone());
    stream::iter(from..to)
        .for_each_concurrent(AT_ONCE, |index| {
            let all = all.clone();
            async move {
                let spec = WorkspaceSpec { owner: account(index % accounts(to)), ..WorkspaceSpec::default() };
                all.create(&PostParams::default(), &Workspace::new(&workspace(index), spec)).await.unwrap();
            }
        })
        .await;
    loop {
        let ready = all.list(&ListParams::default()).await.unwrap().into_iter().filter(is_ready).count();
        if ready >= to {
            break;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!("{from} to {to} workspaces in {:.0} s", started.elapsed().as_secs_f64());
}

fn is_ready(workspace: &Workspace) -> bool {
    let conditions = workspace.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn tell(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize] * 1000.0;
    println!("{what}: median {:.0} ms, p99 {:.0} ms, of {}", at(0.5), at(0.99), times.len());
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "schedulingGates": [{ "name": "example.com/never" }],
            "containers": [{ "name": "c", "image": "busybox:1.35", "resources": {
                "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "9m", "memory": "9Mi" },
            } }],
        },
    }))
    .unwrap()
}

/// From a workspace's creation until its owner, with a kubeconfig, can create a pod.
async fn until_a_pod(admin: &Client, person: &Client) {
    let all: Api<Workspace> = Api::all(admin.clone());
    let mut times = Vec::new();
    for index in 0..SAMPLES {
        let name = format!("olga-{index}");
        let spec = WorkspaceSpec { owner: "olga".into(), ..WorkspaceSpec::default() };
        let started = Instant::now();
        all.create(&PostParams::default(), &Workspace::new(&name, spec)).await.unwrap();
        let namespace = loop {
            let status = all.get(&name).await.unwrap().status.unwrap_or_default();
            if let Some(namespace) = status.namespace {
                break namespace;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let pods: Api<Pod> = Api::namespaced(person.clone(), &namespace);
        while pods.create(&PostParams::default(), &pod("first")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.push(started.elapsed().as_secs_f64());
        all.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    tell("from a new workspace to its owner's first pod", times);
}

fn member(account: &str) -> Member {
    Member::new(account, MemberSpec { account: account.into(), role: Role::Viewer })
}

async fn namespace_of(admin: &Client, index: usize) -> String {
    let all: Api<Workspace> = Api::all(admin.clone());
    all.get(&workspace(index)).await.unwrap().status.unwrap().namespace.unwrap()
}

/// A member is added: until their role is bound, and what it cost the API server.
async fn one_change(admin: &Client, count: usize) {
    let mut times = Vec::new();
    let before = writes(admin).await;
    for sample in 0..SAMPLES {
        let namespace = namespace_of(admin, sample * (count / SAMPLES)).await;
        let started = Instant::now();
        add_member(admin, &namespace).await;
        times.push(started.elapsed().as_secs_f64());
    }
    let written = writes(admin).await - before;
    tell("from a new member to their rights", times);
    println!("writes for each, the member's own included: {:.1}", written / SAMPLES as f64);
    for sample in 0..SAMPLES {
        let namespace = namespace_of(admin, sample * (count / SAMPLES)).await;
        let members: Api<Member> = Api::namespaced(admin.clone(), &namespace);
        members.delete("olga", &DeleteParams::default()).await.unwrap();
    }
}

async fn add_member(admin: &Client, namespace: &str) {
    let members: Api<Member> = Api::namespaced(admin.clone(), namespace);
    members.create(&PostParams::default(), &member("olga")).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), namespace);
    loop {
        let binding = bindings.get_opt("atoll:viewer").await.unwrap();
        let subjects = binding.and_then(|binding| binding.subjects).unwrap_or_default();
        if subjects.iter().any(|subject| subject.name == "atoll:olga") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The API server's own count of what was written of the kinds that tenancy keeps.
async fn writes(admin: &Client) -> f64 {
    const KINDS: [&str; 9] = [
        "workspaces",
        "members",
        "accounts",
        "plans",
        "namespaces",
        "rolebindings",
        "networkpolicies",
        "resourcequotas",
        "limitranges",
    ];
    const VERBS: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
    let mut sum = 0.0;
    for (labels, value) in metric(admin, "apiserver_request_total").await {
        let has =
            |name: &str, of: &[&str]| of.iter().any(|one| labels.contains(&format!("{name}=\"{one}\"")));
        if has("resource", &KINDS) && has("verb", &VERBS) {
            sum += value;
        }
    }
    sum
}

/// A metric of the API server, by its labels.
async fn metric(admin: &Client, name: &str) -> BTreeMap<String, f64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = admin.request_text(request).await.unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    lines.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap_or_default())).collect()
}

/// Resident memory of a role, in MiB.
fn resident(cluster: &Cluster, role: &str) -> f64 {
    let pid = cluster.role(role).pop().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The controller's pod is removed; until a change that was made meanwhile is done.
async fn restart(cluster: &Cluster, admin: &Client, count: usize) {
    let namespace = namespace_of(admin, count - 1).await;
    // What was begun before is done.
    let mut before = writes(admin).await;
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = writes(admin).await;
        if now == before {
            break;
        }
        before = now;
    }
    let controllers = ListParams::default().labels("app=controller");
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "atoll-system");
    // A new pod, since kubelet lets a container wait that was killed before.
    pods.delete_collection(&at_once, &controllers).await.unwrap();
    let started = Instant::now();
    add_member(admin, &namespace).await;
    let took = started.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let written = writes(admin).await - before;
    println!("from the controller's end to a change made after it: {took:.1} s; {written:.0} writes");
    println!("controller, after that: {:.0} MiB resident", resident(cluster, "controller"));
    let members: Api<Member> = Api::namespaced(admin.clone(), &namespace);
    members.delete("olga", &DeleteParams::default()).await.unwrap();
}

/// How long admission takes, by the API server's own histograms, while pods are made at a
/// steady rate: in workspaces that share no quota, then in the same ones when they do.
async fn admission(admin: &Client, person: &Client) {
    const SHARING: usize = 50;
    let all: Api<Workspace> = Api::all(admin.clone());
    let mut namespaces = Vec::new();
    for index in 0..SHARING {
        let plan = Some("bench".to_owned());
        let spec = WorkspaceSpec { owner: "olga".into(), plan, ..WorkspaceSpec::default() };
        let name = format!("olga-shares-{index}");
        all.create(&PostParams::default(), &Workspace::new(&name, spec)).await.unwrap();
        namespaces.push(loop {
            let workspace = all.get(&name).await.unwrap();
            if is_ready(&workspace) {
                break workspace.status.unwrap().namespace.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
    }
    for rate in [50, 100, 200] {
        make_pods(admin, person, &namespaces, rate, "in workspaces that share nothing").await;
    }
    let quota = json!({
        "apiVersion": "atoll.dev/v1alpha1", "kind": "SharedQuota", "metadata": { "name": "olga" },
        "spec": { "account": "olga", "hard": { "pods": "100000" } },
    });
    let quotas: Api<SharedQuota> = Api::all(admin.clone());
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for rate in [50, 100, 200] {
        make_pods(admin, person, &namespaces, rate, "in workspaces that share a quota").await;
    }
    for index in 0..SHARING {
        all.delete(&format!("olga-shares-{index}"), &DeleteParams::default()).await.unwrap();
    }
    quotas.delete("olga", &DeleteParams::default()).await.unwrap();
    while all
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .any(|one| one.name_any().starts_with("olga-"))
    {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A pod's creation each so often, however long the ones before take, for ten seconds.
async fn make_pods(admin: &Client, person: &Client, namespaces: &[String], rate: usize, place: &str) {
    const SECONDS: usize = 10;
    const WEBHOOK: &str = "apiserver_admission_webhook_admission_duration_seconds_bucket";
    const POLICY: &str = "apiserver_validating_admission_policy_check_duration_seconds_bucket";
    const STEP: &str = "apiserver_admission_step_admission_duration_seconds_bucket";
    let mut before = Vec::new();
    for name in [WEBHOOK, POLICY, STEP] {
        before.push(metric(admin, name).await);
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    let mut under_way = tokio::task::JoinSet::new();
    let started = Instant::now();
    for index in 0..rate * SECONDS {
        ticks.tick().await;
        let pods: Api<Pod> = Api::namespaced(person.clone(), &namespaces[index % namespaces.len()]);
        let pod = pod(&format!("p-{}-{index}", started.elapsed().as_nanos()));
        under_way.spawn(async move {
            let asked = Instant::now();
            pods.create(&PostParams::default(), &pod).await.unwrap();
            asked.elapsed().as_secs_f64()
        });
    }
    let times = under_way.join_all().await;
    let took = started.elapsed().as_secs_f64();
    println!("## {rate} pods a second {place} ({:.0} a second were made)", times.len() as f64 / took);
    tell("a pod's creation, by front", times);
    let mut after = Vec::new();
    for name in [WEBHOOK, POLICY, STEP] {
        after.push(metric(admin, name).await);
    }
    for (which, what, of) in [
        (0, "webhook for pods", &["name=\"pods.admission.atoll.dev\"", "operation=\"CREATE\""][..]),
        (0, "webhook for shared quotas", &["name=\"quota.admission.atoll.dev\"", "operation=\"CREATE\""]),
        (1, "each policy", &["policy=\"atoll-"]),
        (2, "all that changes a request", &["operation=\"CREATE\"", "type=\"admit\""]),
        (2, "all that refuses a request", &["operation=\"CREATE\"", "type=\"validate\""]),
    ] {
        let mut buckets: BTreeMap<String, f64> = BTreeMap::new();
        for (labels, value) in &after[which] {
            if of.iter().all(|of| labels.contains(of)) {
                let bound = labels.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
                let since = value - before[which].get(labels).copied().unwrap_or_default();
                *buckets.entry(bound.to_owned()).or_default() += since;
            }
        }
        let asked = buckets.get("+Inf").copied().unwrap_or_default();
        if asked == 0.0 {
            continue;
        }
        let mut buckets: Vec<(f64, f64)> =
            buckets.iter().filter_map(|(bound, count)| Some((bound.parse().ok()?, *count))).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let shares: Vec<String> = buckets
            .iter()
            .filter(|(bound, _)| bound.is_finite() && *bound <= 0.5)
            .map(|(bound, count)| format!("{} ms {:.1} %", bound * 1000.0, count / asked * 100.0))
            .collect();
        println!("{what}, {asked:.0} times, within: {}", shares.join(", "));
    }
}
