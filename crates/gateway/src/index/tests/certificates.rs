//! Which certificates are wanted by ACME, and for whose hosts.

use super::World;
use crate::index::certificates::{Present, WantedCertificate};
use crate::object::{Id, Kind, Object};

const NAMESPACES: &str = "
---
kind: Namespace
metadata: {name: a, labels: {atoll.dev/workspace: one}}
---
kind: Namespace
metadata: {name: b, labels: {atoll.dev/workspace: two}}
";

/// An Ingress with a Secret for hosts of which it has the first.
fn ingress(namespace: &str, created: u8, annotation: &str, hosts: &str, class: &str) -> String {
    let host = hosts.split(',').next().unwrap();
    format!(
        "
---
kind: Ingress
metadata:
  name: web
  namespace: {namespace}
  creationTimestamp: 2026-01-0{created}T00:00:00Z
  annotations: {{{annotation}}}
spec:
  ingressClassName: {class}
  tls: [{{hosts: [{hosts}], secretName: web-tls}}]
  rules:
    - host: {host}
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"
    )
}

const ASKS: &str = "kubernetes.io/tls-acme: 'true'";

fn one(world: &World) -> WantedCertificate {
    let mut wanted = world.index.wanted_certificates();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    wanted.remove(0)
}

#[test]
fn an_ingress_has_to_ask() {
    for (annotation, class, wanted) in [
        (ASKS, "atoll", 1),
        ("cert-manager.io/cluster-issuer: atoll", "nginx", 1),
        ("cert-manager.io/cluster-issuer: somebody-else", "atoll", 0),
        ("kubernetes.io/tls-acme: 'false'", "atoll", 0),
        ("", "atoll", 0),
        (ASKS, "another", 0),
    ] {
        let world = World::new(&(NAMESPACES.to_owned() + &ingress("a", 1, annotation, "a.example", class)));
        assert_eq!(world.index.wanted_certificates().len(), wanted, "{annotation} {class}");
    }
    let world = World::new(&(NAMESPACES.to_owned() + &ingress("a", 1, ASKS, "A.example", "atoll")));
    let wanted = one(&world);
    assert_eq!(wanted.owner, (Kind::Ingress, Id::new("a", "web")));
    assert_eq!((wanted.secret, wanted.workspace.as_str()), (Id::new("a", "web-tls"), "one"));
    assert_eq!((wanted.hosts, wanted.lost), (vec!["a.example".to_owned()], vec![]));
    assert_eq!(wanted.present, Present::Missing);
    assert!(world.index.notes(Kind::Ingress, &Id::new("a", "web")).is_empty(), "it is no unknown annotation");
}

#[test]
fn nobody_gets_one_for_anothers_host() {
    let mut world = World::new(NAMESPACES);
    world.apply(&ingress("b", 2, ASKS, "shop.example", "atoll"));
    assert_eq!(one(&world).hosts, ["shop.example"]);
    // Whoever had it first has it.
    world.apply(&ingress("a", 1, "", "shop.example", "atoll"));
    let wanted = one(&world);
    assert_eq!((wanted.hosts.len(), wanted.lost), (0, vec!["shop.example".to_owned()]));
    // A host that is only named, and served by nobody or by somebody else.
    world.apply(&ingress("b", 2, ASKS, "b.example, shop.example, nobody.example", "atoll"));
    let wanted = one(&world);
    assert_eq!((wanted.hosts, wanted.lost.len()), (vec!["b.example".to_owned()], 2));
}

#[test]
fn a_namespace_that_isnt_known_wants_nothing_yet() {
    let mut world = World::new(&ingress("a", 1, ASKS, "a.example", "atoll"));
    assert!(world.index.wanted_certificates().is_empty());
    world.apply(NAMESPACES);
    assert_eq!(one(&world).workspace, "one");
}

#[test]
fn ours_and_others_are_told_apart() {
    let mut world = World::new(&(NAMESPACES.to_owned() + &ingress("a", 1, ASKS, "a.example", "atoll")));
    world.secret("a", "web-tls", &["a.example"]);
    assert_eq!(one(&world).present, Present::Foreign);
    let secret = |labels: &str, data: &str| {
        let text =
            format!("{{metadata: {{name: web-tls, namespace: a, labels: {{{labels}}}}}, data: {{{data}}}}}");
        let secret: k8s_openapi::api::core::v1::Secret = serde_yaml_ng::from_str(&text).unwrap();
        Object::from(secret)
    };
    world.index.apply(secret("atoll.dev/acme: 'true'", ""));
    assert_eq!(one(&world).present, Present::Ours(Vec::new()));
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let data = k8s_openapi::ByteString(made.cert.pem().into_bytes());
    let data = format!("tls.crt: {}", serde_json::to_value(data).unwrap().as_str().unwrap());
    world.index.apply(secret("atoll.dev/acme: 'true'", &data));
    assert_eq!(one(&world).present, Present::Ours(made.cert.der().to_vec()));
    world.index.apply(secret("", &data));
    assert_eq!(one(&world).present, Present::Foreign, "somebody has taken the label away");
}

#[test]
fn a_gateways_listeners_may_ask() {
    let gateway = |annotation: &str| {
        format!(
            "
---
kind: GatewayClass
metadata: {{name: atoll}}
spec: {{controllerName: atoll.dev/gateway}}
---
kind: Gateway
metadata: {{name: own, namespace: a, annotations: {{{annotation}}}}}
spec:
  gatewayClassName: atoll
  listeners:
    - {{name: one, port: 443, protocol: HTTPS, hostname: one.example, tls: {{certificateRefs: [{{name: one-tls}}]}}}}
    - {{name: any, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: any-tls}}]}}}}
    - {{name: far, port: 443, protocol: HTTPS, hostname: far.example, tls: {{certificateRefs: [{{name: far-tls, namespace: b}}]}}}}
    - {{name: two, port: 443, protocol: HTTPS, hostname: two.example, tls: {{certificateRefs: [{{name: x}}, {{name: y}}]}}}}
    - {{name: clear, port: 80, protocol: HTTP, hostname: clear.example}}
"
        )
    };
    let mut world = World::new(&(NAMESPACES.to_owned() + &gateway("")));
    assert!(world.index.wanted_certificates().is_empty());
    world.apply(&gateway("atoll.dev/acme: 'true'"));
    let wanted = one(&world);
    assert_eq!(wanted.owner, (Kind::Gateway, Id::new("a", "own")));
    assert_eq!((wanted.secret, wanted.hosts), (Id::new("a", "one-tls"), vec!["one.example".to_owned()]));
}
