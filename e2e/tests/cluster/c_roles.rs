//! Every role of Atoll is killed while an app answers: it goes on answering, and
//! what it uses is counted without a hole.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::process::kill;
use e2e::{Cluster, Person, eventually, run};

/// What a steady caller saw: when it asked, and whether it was answered.
type Calls = Mutex<Vec<(Instant, bool)>>;

/// Asks an address ten times a second until told to stop.
fn call(cluster: &Cluster, address: &str, calls: &Calls, over: &AtomicBool) {
    let authority = cluster.authority();
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let said = run(Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "5", "--output", "/dev/null", "--cacert"])
            .arg(authority.path())
            .arg(address));
        calls.lock().unwrap().push((asked, said.code == Some(0)));
        std::thread::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed()));
    }
}

/// Kills a role and waits until another process has taken its place and is ready.
fn replace(cluster: &Cluster, role: &str) {
    let before = cluster.role(role);
    assert_eq!(before.len(), 1, "one process of {role}: {before:?}");
    before.iter().for_each(|pid| kill(pid));
    eventually(&format!("{role} is back"), Duration::from_secs(60), || {
        let now = cluster.role(role);
        let words = ["get", "pods", "-n", "atoll-system", "-l", &format!("app={role}"), "-o"];
        let ready = cluster
            .kubectl(&[&words[..], &["jsonpath={.items[*].status.containerStatuses[*].ready}"]].concat());
        let back = now.len() == 1 && now != before && ready.out.trim() == "true";
        if back { Ok(()) } else { Err(format!("{now:?}, ready: {}", ready.out)) }
    });
}

/// Kills a role; the app answers meanwhile and afterwards.
fn answered_without(cluster: &Cluster, role: &str, calls: &Calls) {
    let began = Instant::now();
    replace(cluster, role);
    eventually(&format!("the app answers after {role}"), Duration::from_secs(30), || {
        let last = calls.lock().unwrap().last().copied();
        if last.is_some_and(|(_, answered)| answered) { Ok(()) } else { Err(format!("{last:?}")) }
    });
    let calls = calls.lock().unwrap();
    let since: Vec<_> = calls.iter().filter(|(asked, _)| *asked >= began).collect();
    let failed = since.iter().filter(|(_, answered)| !answered).count();
    println!("{role}: {} calls, {failed} failed", since.len());
    assert!(!since.is_empty());
    // What the gateway alone carries is away while it starts again.
    assert!(failed == 0 || role == "gateway", "{failed} calls failed while {role} was away");
}

/// How many MiB-seconds of memory a pod was counted for.
fn held(person: &Person, pod: &str) -> u64 {
    let lines = person.api(&format!("/api/v1/workspaces/{}/usage", person.workspace));
    let of_pod =
        |line: &&serde_json::Value| line["name"] == pod && line["meter"] == "memory_mebibyte_seconds";
    let lines = lines.as_array().unwrap().iter().filter(of_pod);
    lines.map(|line| line["quantity"].as_u64().unwrap()).sum()
}

#[test]
fn whatever_role_is_killed_the_app_answers_and_usage_has_no_hole() {
    let cluster = Cluster::shared();
    let person = Person::new(cluster, "cleo", "cleo-lab");
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml");
    let words = ["app", "install", template, "--workspace", "cleo-lab", "--set", "whom=Cleo", "-o", "json"];
    let instance: serde_json::Value = serde_json::from_str(&person.atoll(&words).ok()).unwrap();
    let address = instance["status"]["addresses"][0].as_str().unwrap();
    cluster.answers(address, "Hello, Cleo!");
    // It holds 95 MiB at any time: a time that isn't counted is missed in the sum.
    let applied = Instant::now();
    person.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: holder, namespace: {ns}}}, spec: {{containers: \
         [{{name: c, image: 'busybox:1.35', command: [sh, -c, 'head -c 100000000 /dev/zero > /hold/it; exec sleep 3600'], \
         resources: {{limits: {{memory: 200Mi}}}}, volumeMounts: [{{name: hold, mountPath: /hold}}]}}], \
         volumes: [{{name: hold, emptyDir: {{medium: Memory}}}}]}}}}\n",
        ns = person.namespace
    ));
    let words = ["wait", "-n", &person.namespace, "--for=condition=Ready", "pod/holder", "--timeout=90s"];
    person.kubectl(&words).ok();
    let ready = Instant::now();

    let (calls, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| call(cluster, address, &calls, &over));
        // Also when a check below fails, the caller ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for role in ["controller", "front", "gateway"] {
                answered_without(cluster, role, &calls);
            }
            // Front is another process, and passes on what it is asked.
            person.kubectl(&["get", "pods", "-n", &person.namespace]).ok();
            // A minute ends without the agent, and another one without the server.
            for role in ["agent", "server"] {
                let passed = Duration::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 60);
                std::thread::sleep(Duration::from_secs(60) - passed - Duration::from_millis(500));
                answered_without(cluster, role, &calls);
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });

    person.kubectl(&["delete", "pod", "holder", "-n", &person.namespace, "--grace-period=1"]).ok();
    // Between two looks of the agent's it is not known when it began and ended.
    let (least, most) = (95 * (ready.elapsed().as_secs() - 6), 97 * (applied.elapsed().as_secs() + 6));
    let counted = eventually("all that was held is counted", Duration::from_secs(150), || {
        let counted = held(&person, "pod/holder");
        if counted >= least { Ok(counted) } else { Err(format!("{counted} of {least} MiB-seconds")) }
    });
    assert!(counted <= most, "{counted} MiB-seconds, of {most} at most");
    println!("{counted} MiB-seconds of {least} to {most}");
    person.leave();
}

/// So many controllers run.
fn controllers(cluster: &Cluster, wanted: usize) {
    let replicas = format!("--replicas={wanted}");
    cluster.kubectl(&["scale", "deployment/controller", "-n", "atoll-system", &replicas]).ok();
    eventually(&format!("{wanted} controllers"), Duration::from_secs(60), || {
        let now = cluster.role("controller").len();
        if now == wanted { Ok(()) } else { Err(format!("{now}")) }
    });
}

#[test]
fn what_was_written_without_the_controller_is_done_or_refused_when_it_is_back() {
    let cluster = Cluster::shared();
    let person = Person::new(cluster, "nora", "nora-lab");
    let friend = Person::alone(cluster, "nils");
    cluster.atoll(&["account", "limit", "nora", "2"]).ok();
    controllers(cluster, 0);
    let workspace = |name: &str| {
        format!(
            "{{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {{name: {name}}}, spec: {{owner: nora}}}}\n---\n"
        )
    };
    person.apply(&format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Member, metadata: {{name: nils, namespace: {}}}, spec: {{account: nils, role: viewer}}}}",
        person.namespace
    ));
    // As the server does for people.
    cluster.apply(&workspace("nora-late"));
    // Nobody knows yet that it is one too many.
    std::thread::sleep(Duration::from_millis(1100));
    cluster.apply(&workspace("nora-later"));
    let namespace = person.namespace.as_str();
    // Whoever may do everything breaks what is kept.
    cluster.kubectl(&["delete", "rolebinding", "atoll:owner", "-n", namespace]).ok();
    let patch = r#"{"spec":{"hard":{"pods":"100000"}}}"#;
    cluster.kubectl(&["patch", "resourcequota", "plan", "-n", namespace, "--type=merge", "-p", patch]).ok();
    let may = |who: &str, what: &str| {
        let user = format!("atoll:{who}");
        let words = ["auth", "can-i", "list", what, "-n", namespace, "--as", &user];
        cluster.kubectl(&words).out.starts_with("yes")
    };
    assert!(!may("nils", "pods"), "nobody has bound the role yet");
    controllers(cluster, 1);
    let is = |what: &str, words: &[&str], wanted: &str| {
        eventually(what, Duration::from_secs(60), || {
            let said = cluster.kubectl(words);
            if said.out.contains(wanted) { Ok(()) } else { Err(format!("{said:?}")) }
        });
    };
    let told = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}";
    is("the workspace is made", &["get", "workspace", "nora-late", "-o", told], "Ready");
    is("one is too many", &["get", "workspace", "nora-later", "-o", told], "TooManyWorkspaces");
    is("the binding is back", &["get", "rolebindings", "-n", namespace], "atoll:owner");
    eventually("the member has their role", Duration::from_secs(60), || {
        if may("nils", "pods") { Ok(()) } else { Err("no".into()) }
    });
    eventually("the quota is the plan's again", Duration::from_secs(60), || {
        let words = ["get", "resourcequota", "plan", "-n", namespace, "-o", "jsonpath={.spec.hard.pods}"];
        let said = cluster.kubectl(&words).ok();
        if said == "100000" { Err(said) } else { Ok(()) }
    });
    for name in ["nora-later", "nora-late"] {
        cluster.kubectl(&["delete", "workspace", name]).ok();
    }
    friend.leave();
    person.leave();
}
