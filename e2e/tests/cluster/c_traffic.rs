//! What is billed is what went by: between two pods, with the agent killed
//! meanwhile, against the kernel's own counters in the pods.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::process::kill;
use e2e::{Cluster, Person, eventually, run};

/// Bytes of a pod: as the kernel's stack counts them, with each packet's 14 bytes
/// of Ethernet, or as they are billed.
#[derive(Debug, PartialEq, Eq)]
struct Bytes {
    sent: u64,
    received: u64,
}

/// A table of `/proc/net`: the line of names, then the line of values.
fn table(text: &str, name: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}: ")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let pairs = names.split_whitespace().zip(values.split_whitespace()).skip(1);
    pairs.map(|(name, value)| (name.to_string(), value.parse().unwrap_or_default())).collect()
}

/// What the kernel counted in the network of a process.
fn kernel(pid: &str) -> Bytes {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap();
    let (packets, octets) = (table(&read("snmp"), "Ip"), table(&read("netstat"), "IpExt"));
    Bytes {
        sent: octets["OutOctets"] + 14 * packets["OutTransmits"],
        received: octets["InOctets"] + 14 * packets["InReceives"],
    }
}

/// What is billed for a pod.
fn billed(person: &Person, pod: &str) -> Bytes {
    let lines = person.api(&format!("/api/v1/workspaces/{}/usage", person.workspace));
    let lines = lines.as_array().unwrap().clone();
    let of = |meters: [&str; 2]| {
        let mine = lines.iter().filter(|line| {
            line["name"] == format!("pod/{pod}") && meters.iter().any(|meter| line["meter"] == *meter)
        });
        mine.map(|line| line["quantity"].as_u64().unwrap()).sum()
    };
    Bytes {
        sent: of(["cluster_sent_bytes", "internet_sent_bytes"]),
        received: of(["cluster_received_bytes", "internet_received_bytes"]),
    }
}

/// The agent's pid, once it runs.
fn running_agent(cluster: &Cluster) -> String {
    eventually("the agent runs", Duration::from_secs(60), || {
        let pids = cluster.role("agent");
        if let [pid] = pids.as_slice() { Ok(pid.clone()) } else { Err(format!("{pids:?}")) }
    })
}

/// Says that a thread is over, however it ended.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a program of this machine in a pod's network.
fn within(pid: &str, words: &[&str]) {
    run(Command::new("nsenter").args(["-t", pid, "-n", "--"]).args(words)).ok();
}

#[test]
fn bytes_billed_are_the_bytes_that_went_by() {
    let cluster = Cluster::shared();
    let person = Person::new(cluster, "tess", "tess-lab");
    let namespace = person.namespace.as_str();
    person.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {namespace}}}, \
         spec: {{containers: [{{name: c, image: 'nginx:1.22'}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: {namespace}}}, \
         spec: {{containers: [{{name: c, image: 'busybox:1.35', command: [sleep, '3600']}}], terminationGracePeriodSeconds: 0}}}}\n"
    ));
    person.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=90s"]).ok();
    let exec =
        |pod: &str, line: &str| person.kubectl(&["exec", "-n", namespace, pod, "--", "sh", "-c", line]).ok();
    let address =
        person.kubectl(&["get", "pod", "-n", namespace, "web", "-o", "jsonpath={.status.podIP}"]).ok();
    let pids = [cluster.pod_pid(namespace, "web"), cluster.pod_pid(namespace, "client")];
    let [web, client] = &pids;

    exec("web", "head -c 40000000 /dev/zero > /usr/share/nginx/html/forty");

    // Each packet on its own, so that the stack counts what a wire would carry.
    for pid in &pids {
        within(pid, &["ip", "link", "set", "eth0", "gso_max_segs", "1"]);
    }
    let fetch = format!(
        "import urllib.request as r\nassert len(r.urlopen('http://{address}/forty').read()) == 40_000_000\n"
    );
    let fetch = || within(client, &["python3", "-c", &fetch]);
    let datagrams = format!(
        "import socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         for i in range(2000):\n s.sendto(b'x'*1200,('{address}',9))\n time.sleep(0.0005)\n"
    );
    // A pod that was killed often is started again later and later.
    cluster.kubectl(&["delete", "pod", "-n", "atoll-system", "-l", "app=agent"]).ok();
    let killer_is_done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&killer_is_done);
            for _ in 0..2 {
                let agent = running_agent(cluster);
                std::thread::sleep(Duration::from_secs(1));
                kill(&agent);
            }
            running_agent(cluster);
        });
        let mut rounds = 0;
        while rounds < 3 || !killer_is_done.load(Ordering::Relaxed) {
            fetch();
            within(client, &["python3", "-c", &datagrams]);
            rounds += 1;
        }
        rounds
    });
    println!("{rounds} rounds of 40 MB while the agent was killed twice");

    let pods = [("web", web), ("client", client)];
    let equal = |what: &str| {
        for (pod, pid) in pods {
            eventually(&format!("{what}: {pod}'s bytes"), Duration::from_secs(180), || {
                let (kernel, billed) = (kernel(pid), billed(&person, pod));
                let told = format!("the kernel counted {kernel:?}, billed are {billed:?}");
                if kernel == billed { Ok(told) } else { Err(told) }
            });
        }
    };
    equal("packet by packet");
    assert!(kernel(client).received > 120_000_000);

    // In large pieces, as usual: what one sent the other received.
    for pid in &pids {
        within(pid, &["ip", "link", "set", "eth0", "gso_max_segs", "65535"]);
    }
    let before = billed(&person, "client");
    fetch();
    eventually("in large pieces: what was sent was received", Duration::from_secs(180), || {
        let (web, client) = (billed(&person, "web"), billed(&person, "client"));
        let told = format!("billed are {web:?} and {client:?}");
        let all = client.received > before.received + 40_000_000;
        if all && web.sent == client.received && web.received == client.sent { Ok(told) } else { Err(told) }
    });
    person.leave();
}

/// A pod `web` that serves at a host.
fn web(person: &Person, host: &str) {
    let namespace = person.namespace.as_str();
    person.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {namespace}, labels: {{app: web}}}}, \
         spec: {{containers: [{{name: c, image: 'nginx:1.22'}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {namespace}}}, \
         spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: web, namespace: {namespace}}}, \
         spec: {{rules: [{{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}}}\n"
    ));
    person.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "pod/web", "--timeout=90s"]).ok();
}

#[test]
fn what_an_address_sends_is_billed_and_to_its_workspace() {
    const SIZE: u64 = 1_000_000;
    let cluster = Cluster::shared();
    let person = Person::new(cluster, "gwen", "gwen-lab");
    let namespace = person.namespace.as_str();
    let host = "gwen.atollapps.localhost";
    web(&person, host);
    let line = format!("head -c {SIZE} /dev/zero | tr '\\0' x > /usr/share/nginx/html/million");
    person.kubectl(&["exec", "-n", namespace, "web", "--", "sh", "-c", &line]).ok();
    let address = format!("https://{host}:{}/million", cluster.https());
    // The pod's own counters begin with the first request that was served.
    let (mut asked, mut sent) = (0, 0);
    eventually("the address answers", Duration::from_secs(60), || {
        let (status, body) = cluster.curl(&address);
        if status == "200" {
            (asked, sent) = (asked + 1, sent + body.len() as u64);
            return Ok(());
        }
        Err(format!("{status} {body}"))
    });
    let told = || {
        let lines = person.api(&format!("/api/v1/workspaces/{}/usage", person.workspace));
        let lines = lines.as_array().unwrap().clone();
        let of = |meter: &str| {
            let mine = lines.iter().filter(|line| line["name"] == "gateway" && line["meter"] == meter);
            mine.map(|line| line["quantity"].as_u64().unwrap()).sum::<u64>()
        };
        (of("gateway_requests"), of("gateway_sent_bytes"))
    };
    // Some were answered by "not yet" before; they count, too.
    let first = eventually("the first request is billed", Duration::from_secs(180), || {
        let (requests, bytes) = told();
        if requests >= asked && bytes >= sent {
            Ok((requests, bytes))
        } else {
            Err(format!("{requests} {bytes}"))
        }
    });
    let agent = running_agent(cluster);
    for turn in 0..20 {
        if turn == 10 {
            kill(&agent);
        }
        let (status, body) = cluster.curl(&address);
        assert_eq!((status.as_str(), body.len() as u64), ("200", SIZE));
    }
    let wanted = (first.0 + 20, first.1 + 20 * SIZE);
    eventually("every request and byte is billed, once", Duration::from_secs(180), || {
        let billed = told();
        if billed == wanted { Ok(()) } else { Err(format!("{billed:?}, and not {wanted:?}")) }
    });
    let stranger = Person::new(cluster, "gus", "gus-lab");
    let lines = stranger.api(&format!("/api/v1/workspaces/{}/usage", stranger.workspace));
    assert!(lines.as_array().unwrap().iter().all(|line| line["name"] != "gateway"), "{lines}");
    stranger.leave();
    person.leave();
}

/// Asks one after the other, as fast as it goes: how often there was each status.
fn flood(cluster: &Cluster, host: &str, times: usize) -> BTreeMap<String, usize> {
    let authority = cluster.authority();
    let said = run(Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}\n", "--cacert"])
        .arg(authority.path())
        .arg(format!("https://{host}:{}/?[1-{times}]", cluster.https())));
    let mut statuses = BTreeMap::new();
    for status in said.ok().lines() {
        *statuses.entry(status.to_owned()).or_insert(0) += 1;
    }
    statuses
}

#[test]
fn a_flood_is_refused_as_its_workspace_s_plan_says_and_costs_no_other() {
    const TIMES: usize = 400;
    let cluster = Cluster::shared();
    let (narrow, wide) = (Person::new(cluster, "fay", "fay-lab"), Person::new(cluster, "finn", "finn-lab"));
    let hosts = ["fay.atollapps.localhost", "finn.atollapps.localhost"];
    for (person, host) in [&narrow, &wide].into_iter().zip(hosts) {
        web(person, host);
        eventually("the address answers", Duration::from_secs(60), || {
            let statuses = flood(cluster, host, 1);
            if statuses.contains_key("200") { Ok(()) } else { Err(format!("{statuses:?}")) }
        });
    }
    let all = BTreeMap::from([("200".to_owned(), TIMES)]);
    assert_eq!(flood(cluster, hosts[0], TIMES), all, "nothing is said yet");
    let plan = |requests: &str| {
        let words = ["plan", "set", "flooded", "--pod-security", "baseline", "--gateway-requests", requests];
        cluster.atoll(&words).ok();
    };
    // The namespace tells all gateways, each of which hears it within a moment.
    let told = |wanted: &str| {
        eventually("the plan is told", Duration::from_secs(60), || {
            let path = "jsonpath={.metadata.annotations.policy\\.atoll\\.dev/gateway-requests}";
            let said = cluster.kubectl(&["get", "namespace", &narrow.namespace, "-o", path]).ok();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    plan("5");
    cluster.atoll(&["workspace", "plan", "fay-lab", "flooded"]).ok();
    told("5");
    eventually("the flood is refused", Duration::from_secs(30), || {
        let statuses = flood(cluster, hosts[0], TIMES);
        let of = |status: &str| statuses.get(status).copied().unwrap_or_default();
        let most = of("429") > TIMES / 2 && of("200") > 0 && of("200") + of("429") == TIMES;
        if most { Ok(()) } else { Err(format!("{statuses:?}")) }
    });
    assert_eq!(flood(cluster, hosts[1], TIMES), all, "the other workspace's plan says nothing");
    plan("0");
    told("0");
    eventually("nothing is refused any more", Duration::from_secs(30), || {
        let statuses = flood(cluster, hosts[0], TIMES);
        if statuses == all { Ok(()) } else { Err(format!("{statuses:?}")) }
    });
    cluster.atoll(&["workspace", "plan", "fay-lab", "standard"]).ok();
    narrow.leave();
    wide.leave();
    cluster.atoll(&["plan", "delete", "flooded"]).ok();
}
