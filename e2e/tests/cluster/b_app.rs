//! Apps: from a template to an https address and away again.

use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, eventually, run};

#[test]
fn an_app_answers_over_https_in_curl_and_in_a_browser() {
    let cluster = Cluster::shared();
    let (name, address) = cluster.install_hello("Ada <i>", true);
    cluster.answers(&address, "Hello, Ada <i>!");
    assert!(cluster.browse(&address).contains("Hello, Ada"));

    // http leads to https.
    let host = address.trim_start_matches("https://").split(':').next().unwrap().to_string();
    let http = cluster.status()["cluster"]["ports"]["http"].as_u64().unwrap();
    let (status, _) = cluster.curl(&format!("http://{host}:{http}/"));
    assert!(["301", "302", "307", "308"].contains(&status.as_str()), "{status}");

    let listed = cluster.atoll(&["app", "list"]).ok();
    assert!(listed.contains(&name) && listed.contains("1/1") && listed.contains(&address), "{listed}");
    // The Ingress says where it is reached.
    eventually("the ingress's address", Duration::from_secs(10), || {
        let said = cluster.kubectl(&[
            "get",
            "ingress",
            &name,
            "-o",
            "jsonpath={.status.loadBalancer.ingress[0].ip}",
        ]);
        if said.out.starts_with("10.213.") { Ok(()) } else { Err(said.out) }
    });

    cluster.atoll(&["app", "uninstall", &name]).ok();
    eventually("everything of the app is gone", Duration::from_secs(30), || {
        let label = format!("atoll.dev/instance={name}");
        let kinds = "deployments,services,ingresses,configmaps,persistentvolumeclaims,pods";
        let left = cluster.kubectl(&["get", kinds, "-l", &label, "-o", "name"]).ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
    eventually("the address knows it", Duration::from_secs(10), || {
        let (status, body) = cluster.curl(&address);
        if status == "404" { Ok(()) } else { Err(format!("{status} {body}")) }
    });
}

#[test]
fn an_http_route_is_served_without_a_reload() {
    let cluster = Cluster::shared();
    let (name, address) = cluster.install_hello("route", false);
    cluster.apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: own}}\nspec:\n  \
         parentRefs: [{{name: gateway, namespace: atoll-system}}]\n  hostnames: [own.atollapps.localhost]\n  \
         rules:\n    - matches: [{{path: {{type: PathPrefix, value: /}}}}]\n      \
         backendRefs: [{{name: {name}, port: 80}}]\n"
    ));
    let own = format!("https://own.atollapps.localhost:{}/", cluster.https());
    cluster.answers(&own, "Hello, route!");
    cluster.answers(&address, "Hello, route!");
    let accepted = r#"{.status.parents[0].conditions[?(@.type=="Accepted")].status}"#;
    eventually("the route is told that it is served", Duration::from_secs(10), || {
        let said = cluster.kubectl(&["get", "httproute", "own", "-o", &format!("jsonpath={accepted}")]);
        if said.out == "True" { Ok(()) } else { Err(said.out) }
    });
    cluster.kubectl(&["delete", "httproute", "own"]).ok();
    eventually("the route is gone", Duration::from_secs(10), || match cluster.curl(&own).0.as_str() {
        "404" => Ok(()),
        other => Err(other.into()),
    });
    cluster.atoll(&["app", "uninstall", &name]).ok();
}

#[test]
fn a_gateway_gets_an_address_of_its_own_and_leaves_nothing() {
    let cluster = Cluster::shared();
    let (name, _) = cluster.install_hello("door", false);
    cluster.apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: door}}\nspec:\n  \
         gatewayClassName: atoll\n  listeners: [{{name: http, port: 8088, protocol: HTTP}}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: door}}\nspec:\n  \
         parentRefs: [{{name: door}}]\n  rules: [{{backendRefs: [{{name: {name}, port: 80}}]}}]\n"
    ));
    let address = eventually("the Gateway has an address", Duration::from_secs(30), || {
        let said =
            cluster.kubectl(&["get", "gateway", "door", "-o", "jsonpath={.status.addresses[0].value}"]);
        if said.out.starts_with("10.213.") { Ok(said.out) } else { Err(said.out) }
    });
    let pid = cluster.node_pid(1).to_string();
    let url = format!("http://{address}:8088/");
    let ask = || run(Command::new("nsenter").args(["-t", &pid, "-n", "--", "curl", "-sS", "-m", "5", &url]));
    eventually("it leads to the app", Duration::from_secs(10), || {
        let said = ask();
        if said.out.contains("Hello, door!") { Ok(()) } else { Err(format!("{said:?}")) }
    });
    cluster.kubectl(&["delete", "httproute,gateway", "door"]).ok();
    eventually("its Service is gone", Duration::from_secs(10), || {
        let said = cluster.kubectl(&["get", "services", "-n", "atoll-system", "-o", "name"]).ok();
        if said.contains("service/gateway-") { Err(said) } else { Ok(()) }
    });
    assert_ne!(ask().code, Some(0), "nothing answers there any more");
    cluster.atoll(&["app", "uninstall", &name]).ok();
}
