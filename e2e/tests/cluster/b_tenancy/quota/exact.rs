//! A quota that workspaces share: exact, whoever asks at once and whatever dies meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Person, eventually, run};

const WORKSPACES: usize = 50;
const ASKED: usize = 1000;
const HARD: usize = 700;
const LIMIT: Duration = Duration::from_secs(120);

/// Somebody with many workspaces, and a quota for all of them.
struct World {
    cluster: &'static Cluster,
    owner: Person,
    namespaces: Vec<String>,
}

fn name(index: usize) -> String {
    format!("quinn-{index}")
}

impl World {
    fn new(account: &str) -> Self {
        let cluster = Cluster::shared();
        let owner = Person::alone(cluster, account);
        cluster.atoll(&["account", "limit", account, &WORKSPACES.to_string()]).ok();
        let quota = ["quota", "set", account, "--account", account, "--hard"];
        cluster.atoll(&[&quota[..], &[&format!("pods={HARD}")]].concat()).ok();
        let mut workspaces = String::new();
        for index in 0..WORKSPACES {
            let name = name(index);
            writeln!(
                workspaces,
                "---\n{{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {{name: {name}}}, spec: {{owner: {account}}}}}"
            )
            .unwrap();
        }
        cluster.apply(&workspaces);
        let namespaces = eventually("all workspaces are ready", LIMIT, || {
            let path = "jsonpath={range .items[?(@.spec.owner=='OWNER')]}{.status.namespace} {.status.conditions[0].reason}{'\\n'}{end}"
                .replace("OWNER", account);
            let said = cluster.kubectl(&["get", "workspaces", "-o", &path]).ok();
            let ready: Vec<String> =
                said.lines().filter_map(|line| line.strip_suffix(" Ready")).map(Into::into).collect();
            if ready.len() == WORKSPACES { Ok(ready) } else { Err(said) }
        });
        Self { cluster, owner, namespaces }
    }

    /// Creates that many pods at once; how often which answer came.
    fn create(&self, count: usize) -> BTreeMap<String, usize> {
        // It waits for ever, and uses nothing of the node.
        let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"p-"},"spec":{"schedulingGates":[{"name":"example.com/never"}],"containers":[{"name":"c","image":"busybox:1.35","resources":{"requests":{"cpu":"1m","memory":"1Mi"},"limits":{"cpu":"9m","memory":"9Mi"}}}]}}"#;
        let body = self.owner.file("pod.json", pod);
        let authority = self.cluster.authority();
        let server = self.owner.server();
        let port = server.rsplit_once(':').unwrap().1;
        let bodies = tempfile::tempdir().unwrap();
        let mut requests = String::new();
        for index in 0..count {
            let namespace = &self.namespaces[index % WORKSPACES];
            if index > 0 {
                requests.push_str("next\n");
            }
            writeln!(
                requests,
                "url = \"https://api.atoll.localhost:{port}/api/v1/namespaces/{namespace}/pods\"\n\
                 data = \"@{body}\"\nheader = \"Content-Type: application/json\"\nheader = \"Authorization: Bearer {}\"\n\
                 cacert = \"{}\"\nresolve = \"api.atoll.localhost:{port}:127.0.0.1\"\nmax-time = 60\nsilent\n\
                 output = \"{}\"\nwrite-out = \"%{{http_code}} {index}\\n\"",
                self.owner.token(),
                authority.path().display(),
                bodies.path().join(index.to_string()).display(),
            )
            .unwrap();
        }
        let config = self.owner.file("requests", &requests);
        let said = run(Command::new("curl").args([
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            "200",
            "--config",
            &config,
        ]));
        let mut answers = BTreeMap::new();
        for answer in said.out.lines() {
            let (status, index) = answer.split_once(' ').unwrap();
            let body = std::fs::read_to_string(bodies.path().join(index)).unwrap_or_default();
            let what = match status {
                "201" => "created".to_owned(),
                "403" if body.contains("has no room") => "refused".to_owned(),
                // By these clients know that they may try again.
                "429" | "503" => "later".to_owned(),
                // Two hundred at once on a busy machine: not every connection comes about.
                "000" => "later".to_owned(),
                _ => format!("{status} {body}"),
            };
            *answers.entry(what).or_default() += 1;
        }
        answers
    }

    fn pods(&self) -> usize {
        let words = [
            "get",
            "pods",
            "--all-namespaces",
            "-o",
            "jsonpath={range .items[*]}{.metadata.namespace}{'\\n'}{end}",
        ];
        let said = self.cluster.kubectl(&words).ok();
        said.lines().filter(|line| self.namespaces.iter().any(|namespace| namespace == line)).count()
    }

    /// `used` and the number of reservations.
    fn book(&self) -> (String, usize) {
        let path = "jsonpath={.status.used.pods}";
        let used = self.cluster.kubectl(&["get", "sharedquota", &self.owner.account, "-o", path]).ok();
        let path = "jsonpath={range .status.reserved.*}{.uid} {end}";
        let reserved = self.cluster.kubectl(&["get", "sharedquota", &self.owner.account, "-o", path]).ok();
        (used, reserved.split_whitespace().count())
    }

    fn book_says(&self, used: usize) {
        eventually("the book says what is there", LIMIT, || {
            let book = self.book();
            if book == (used.to_string(), 0) { Ok(()) } else { Err(format!("{book:?}")) }
        });
    }

    /// Asks until everybody has an answer that is final.
    fn ask_all(&self) -> BTreeMap<String, usize> {
        let mut answers = self.create(ASKED);
        for _ in 0..20 {
            let Some(later) = answers.remove("later") else { break };
            for (what, count) in self.create(later) {
                *answers.entry(what).or_default() += count;
            }
        }
        answers
    }

    fn empty(&self) {
        for namespace in &self.namespaces {
            self.cluster
                .kubectl(&["delete", "pods", "--all", "-n", namespace, "--wait=false", "--grace-period=0"])
                .ok();
        }
        self.book_says(0);
    }

    fn leave(&self) {
        let names: Vec<String> = (0..WORKSPACES).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.cluster.kubectl(&[&["delete", "workspaces"][..], &names].concat()).ok();
        self.cluster.atoll(&["quota", "delete", &self.owner.account]).ok();
        eventually("the account can go", LIMIT, || {
            let said = self.cluster.atoll(&["account", "delete", &self.owner.account]);
            if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
}

#[test]
fn a_shared_quota_is_met_and_never_exceeded() {
    let world = World::new("quinn");
    world.book_says(0);

    let answers = world.ask_all();
    let wanted = BTreeMap::from([("created".to_string(), HARD), ("refused".to_string(), ASKED - HARD)]);
    assert_eq!(answers, wanted);
    assert_eq!(world.pods(), HARD);
    world.book_says(HARD);

    // What is gone makes room, at once.
    let namespace = &world.namespaces[0];
    let some = world
        .cluster
        .kubectl(&["get", "pods", "-n", namespace, "-o", "jsonpath={.items[0].metadata.name}"])
        .ok();
    world.cluster.kubectl(&["delete", "pod", "-n", namespace, &some, "--grace-period=0"]).ok();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {schedulingGates: [{name: example.com/never}], \
               containers: [{name: c, image: 'busybox:1.35', resources: {requests: {cpu: 1m, memory: 1Mi}, \
               limits: {cpu: 9m, memory: 9Mi}}}]}}";
    let pod = world.owner.file("pod.yaml", pod);
    let dry = ["create", "-f", &pod, "-n", namespace, "--dry-run=server"];
    for _ in 0..3 {
        world.owner.kubectl(&dry).ok();
    }
    // A dry run took nothing of it.
    let create = ["create", "-f", &pod, "-n", &world.namespaces[1]];
    world.owner.kubectl(&create).ok();
    let said = world.owner.kubectl(&create);
    assert!(said.err.contains("the shared quota quinn has no room: pods: 700 of 700 are used"), "{said:?}");
    let said = world.cluster.atoll(&["quota", "set", "quinn", "--hard", "pods=10"]);
    assert!(said.err.contains("pods: 700 are used, which is more than 10"), "{said:?}");
    let said = world.cluster.atoll(&["quota", "set", "quinn", "--hard", "pods=many"]);
    assert!(said.err.contains("spec.hard: pods: write a quantity"), "{said:?}");

    // While who answers is killed nobody gets what isn't there, and who tries again
    // gets what is.
    world.empty();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let words = [
                    "delete",
                    "pods",
                    "-n",
                    "atoll-system",
                    "-l",
                    "app=admission",
                    "--force",
                    "--grace-period=0",
                ];
                world.cluster.kubectl(&words);
                std::thread::sleep(Duration::from_secs(4));
            }
        });
        let answers = world.create(ASKED);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        answers
    });
    assert!(answers.contains_key("later"), "nobody noticed: {answers:?}");
    assert!(world.pods() <= HARD);
    let words = ["rollout", "status", "-n", "atoll-system", "deployment/admission", "--timeout=60s"];
    world.cluster.kubectl(&words).ok();
    // What was promised to those who were cut off is free again.
    eventually("all that is promised is there", LIMIT, || {
        let (used, reserved) = world.book();
        if reserved == 0 { Ok(used) } else { Err(format!("{reserved} are reserved")) }
    });
    let there = world.pods();
    let answers = world.ask_all();
    assert_eq!(answers.get("created").copied().unwrap_or_default(), HARD - there, "{answers:?}");
    assert_eq!(world.pods(), HARD);

    // Without the quota there is no limit.
    world.cluster.atoll(&["quota", "delete", "quinn"]).ok();
    eventually("nobody asks any more", LIMIT, || {
        let said = world.owner.kubectl(&create);
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    world.cluster.atoll(&["quota", "set", "quinn", "--account", "quinn", "--hard", "pods=900"]).ok();
    world.book_says(HARD + 1);
    world.leave();
}
