//! The cloud as its people see it: accounts, workspaces, what is shut off between
//! them, what they use and what it costs; by command and in a real browser.

use std::time::Duration;

use e2e::{Cluster, Person, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// A template that can't do without an answer.
const ASKS: &str = "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: greet}\nspec:\n  \
    title: Greet\n  defaults: {app_name: {type: string, value: greet}}\n  \
    inputs: {whom: {description: Whom to greet, type: string, default: '', required: true}}\n---\n\
    {apiVersion: v1, kind: ConfigMap, metadata: {name: greet}, data: {whom: '${{ inputs.whom }}'}}\n";

#[test]
fn a_stranger_becomes_a_customer() {
    let cluster = Cluster::shared();
    let ada = Person::new(cluster, "ada", "ada-shop");
    let namespaces = ada.kubectl(&["get", "namespaces", "-o", "name"]).ok();
    assert_eq!(namespaces.trim(), format!("namespace/{}", ada.namespace), "her own and no others");
    assert!(ada.kubectl(&["auth", "can-i", "get", "nodes"]).out.contains("no"));
    assert!(ada.kubectl(&["auth", "can-i", "create", "pods", "-n", &ada.namespace]).out.contains("yes"));
    assert_ne!(ada.kubectl(&["get", "secrets", "-n", "atoll-system"]).code, Some(0));

    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml");
    let words = ["app", "install", template, "--workspace", "ada-shop", "--set", "whom=Ada", "-o", "json"];
    let instance: serde_json::Value = serde_json::from_str(&ada.atoll(&words).ok()).unwrap();
    assert_eq!(instance["metadata"]["namespace"], ada.namespace.as_str());
    let address = instance["status"]["addresses"][0].as_str().unwrap();
    cluster.answers(address, "Hello, Ada!");

    let pod = ada.kubectl(&["get", "pods", "-n", &ada.namespace, "-o", "name"]).ok();
    let pod = pod.trim();
    let said = ada.kubectl(&["exec", "-n", &ada.namespace, pod, "--", "echo", "through front"]).ok();
    assert!(said.contains("through front"), "{said}");
    assert!(ada.kubectl(&["logs", "-n", &ada.namespace, pod]).ok().contains("GET /"));

    cluster.work(&ada.namespace, pod);
    // The first minute has to be over.
    eventually("the bill has a line", Duration::from_secs(150), || {
        let bill = ada.atoll(&["bill", "--workspace", "ada-shop", "-o", "json"]);
        let bill: serde_json::Value = serde_json::from_str(&bill.out).map_err(|error| error.to_string())?;
        let total = bill["totalMicros"].as_i64().unwrap_or_default();
        if total > 0 { Ok(()) } else { Err(bill.to_string()) }
    });
    let usage = ada.atoll(&["usage", "--workspace", "ada-shop"]).ok();
    assert!(usage.contains("processor") && usage.contains("pod/"), "{usage}");

    // In the browser: the page that everybody gets first.
    let desktop = format!("https://atoll.localhost:{}", cluster.https());
    let page = cluster.browse(&desktop);
    assert!(page.contains("Log in"), "{page}");
    ada.leave();

    // Who has a workspace of that name afterwards sees nothing of hers.
    let eva = Person::new(cluster, "eva", "ada-shop");
    let bill: serde_json::Value =
        serde_json::from_str(&eva.atoll(&["bill", "--workspace", "ada-shop", "-o", "json"]).ok()).unwrap();
    assert_eq!((bill["workspace"].as_str(), &bill["lines"]), (Some("ada-shop"), &serde_json::json!([])));
    eva.leave();
}

/// A port of the node that leads to a pod. No tenant gets one: an administrator
/// makes it, outside of all workspaces.
fn node_port(cluster: &Cluster, person: &Person, pod: &str) -> u16 {
    let service = |namespace: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: outside, namespace: {namespace}}}, \
             spec: {{type: NodePort, ports: [{{port: 80}}]}}}}\n"
        )
    };
    let refused = person.try_apply(&service(&person.namespace));
    assert!(refused.err.contains("a Service of type NodePort is not offered"), "{refused:?}");
    cluster.apply(&format!(
        "{}---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: outside, namespace: default, labels: {{kubernetes.io/service-name: outside}}}}, \
         ports: [{{port: 80}}], endpoints: [{{addresses: ['{pod}']}}]}}\n",
        service("default")
    ));
    let port = ["get", "service", "outside", "-o", "jsonpath={.spec.ports[0].nodePort}"];
    cluster.kubectl(&port).ok().trim().parse().unwrap()
}

#[test]
fn what_is_wrong_is_said() {
    let cluster = Cluster::shared();
    let person = Person::new(cluster, "zoe", "zoe-lab");
    let cases: [(&[&str], &str); 6] = [
        (&["account", "create", "zoe"], "is taken"),
        (&["account", "create", "Zoë"], "small letters"),
        (&["workspace", "create", "zoe-lab", "--owner", "zoe"], "is taken"),
        (&["workspace", "create", "lab", "--owner", "nobody"], "no account `nobody`"),
        (&["workspace", "create", "a_b", "--owner", "zoe"], "small letters"),
        (&["bill", "--workspace", "not-mine"], "no workspace"),
    ];
    for (words, expected) in cases {
        let said = person.atoll(words);
        assert_ne!(said.code, Some(0), "{words:?}");
        assert!(said.err.contains(expected) && said.err.lines().count() == 1, "{words:?}: {said:?}");
    }
    let template = person.file("greet.yaml", ASKS);
    let said = person.atoll(&["app", "install", &template, "--workspace", "zoe-lab"]);
    let last = said.err.lines().last().unwrap_or_default();
    assert!(last.contains("`whom` is required") && said.code == Some(1), "{said:?}");
    let wrong = person.login("not the password");
    assert!(wrong.err.contains("don't match"), "{wrong:?}");
    // A token that was changed.
    let token = person.token();
    let said = person.kubectl_with(&format!("{token}x"), &["get", "namespaces"]);
    // kubectl's words for 401.
    assert!(said.err.contains("You must be logged in to the server"), "{said:?}");
    // A login that is over.
    let logins = person.file_of_logins();
    let text = std::fs::read_to_string(&logins).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["accounts"]["zoe"]["expires"] = 1.into();
    std::fs::write(&logins, value.to_string()).unwrap();
    let said = person.atoll(&["bill", "--workspace", "zoe-lab"]);
    assert!(said.err.contains("the login of `zoe` has expired: `atoll login"), "{said:?}");
    std::fs::write(&logins, text).unwrap();
    // After another password what was issued before is refused.
    cluster.atoll(&["account", "password", "zoe"]).ok();
    eventually("the old token is refused", LIMIT, || {
        let said = person.kubectl(&["get", "namespaces"]);
        if said.code == Some(0) { Err("it still works".into()) } else { Ok(()) }
    });
    person.leave();
}

#[test]
fn workspaces_are_shut_off_from_each_other() {
    let cluster = Cluster::shared();
    let (ann, ben) = (Person::new(cluster, "ann", "ann-lab"), Person::new(cluster, "ben", "ben-lab"));
    for person in [&ann, &ben] {
        person.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {ns}, labels: {{app: web}}}}, \
             spec: {{containers: [{{name: c, image: 'nginx:1.22'}}]}}}}\n---\n\
             {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {ns}}}, \
             spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: {ns}}}, \
             spec: {{containers: [{{name: c, image: 'busybox:1.35', command: [sleep, '3600']}}], terminationGracePeriodSeconds: 0}}}}\n",
            ns = person.namespace
        ));
    }
    for person in [&ann, &ben] {
        let words =
            ["wait", "-n", &person.namespace, "--for=condition=Ready", "pod", "--all", "--timeout=90s"];
        person.kubectl(&words).ok();
    }
    let get = |person: &Person, kind: &str, path: &str| {
        person.kubectl(&["get", kind, "-n", &person.namespace, "web", "-o", &format!("jsonpath={path}")]).ok()
    };
    let reaches = |from: &Person, address: &str, port: u16| {
        let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}");
        let words = ["exec", "-n", &from.namespace, "client", "--", "sh", "-c", &fetch];
        from.kubectl(&words).out.contains("HTTP/1.")
    };
    let (pod, service) = (get(&ben, "pod", "{.status.podIP}"), get(&ben, "service", "{.spec.clusterIP}"));
    eventually("ben reaches his own server by both addresses", LIMIT, || {
        if reaches(&ben, &pod, 80) && reaches(&ben, &service, 80) { Ok(()) } else { Err("no".into()) }
    });
    let node = cluster.status()["nodes"][0]["address"].as_str().unwrap().to_string();
    let node_port = node_port(cluster, &ben, &pod);
    let gateway = ["get", "pods", "-n", "atoll-system", "-l", "app=gateway", "-o"];
    let gateway = cluster.kubectl(&[&gateway[..], &["jsonpath={.items[0].status.podIP}"]].concat()).ok();
    let closed = || {
        [
            ("his pod", reaches(&ann, &pod, 80)),
            ("his service", reaches(&ann, &service, 80)),
            ("his pod by the node's port", reaches(&ann, &node, node_port)),
            ("the node's registry", reaches(&ann, &node, 5000)),
            ("the gateway's back side", reaches(&ann, &gateway, 9090)),
        ]
    };
    for (what, reached) in closed() {
        assert!(!reached, "ann reaches {what}");
    }
    // There is no second way by IPv6: pods have none but the link's own.
    let addresses = ann.kubectl(&["exec", "-n", &ann.namespace, "client", "--", "cat", "/proc/net/if_inet6"]);
    let routed = addresses.out.lines().filter(|line| !line.starts_with("fe80") && !line.ends_with(" lo"));
    assert_eq!(routed.count(), 0, "{addresses:?}");
    // Names are looked up, and the way to the gateway is open.
    let words =
        ["exec", "-n", &ann.namespace, "client", "--", "nslookup", "kubernetes.default.svc.cluster.local"];
    assert!(ann.kubectl(&words).out.contains("10.96.0.1"));
    assert!(reaches(&ann, "10.96.0.80", 80));

    // Neither may be taken away by those it holds.
    let policy = ["delete", "networkpolicy", "-n", &ann.namespace, "isolation"];
    let said = ann.kubectl(&policy);
    assert!(said.err.contains("kept by Atoll"), "{said:?}");
    ann.apply(&format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: open, namespace: {}}}, \
         spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{{}}], egress: [{{}}]}}}}",
        ann.namespace
    ));
    ben.apply(&format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: open, namespace: {}}}, \
         spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{{}}], egress: [{{}}]}}}}",
        ben.namespace
    ));
    // Both are as open as policies can be: what is left is the node's data path.
    std::thread::sleep(Duration::from_secs(5));
    for (what, reached) in closed() {
        assert!(
            !reached,
            "with the most permissive policies ann reaches {what}: the data path let it through"
        );
    }

    // Without it, the same ways are open: it is what kept them shut.
    cluster.without_data_path(|| {
        eventually("without the data path ann reaches all of it", LIMIT, || {
            let found: Vec<_> =
                closed().into_iter().filter(|(_, reached)| !reached).map(|(what, _)| what).collect();
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?} stay shut")) }
        });
    });
    cluster.kubectl(&["delete", "service", "outside"]).ok();
    ann.leave();
    ben.leave();
}
