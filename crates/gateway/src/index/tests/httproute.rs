//! HTTPRoutes, with the Gateways that let them in.

use super::World;
use crate::object::{Id, Kind};

pub(super) const GATEWAY: &str = "
kind: GatewayClass
metadata: {name: atoll}
spec: {controllerName: atoll.dev/gateway}
---
kind: Gateway
metadata: {name: gw, namespace: a}
spec:
  gatewayClassName: atoll
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, hostname: '*.example', tls: {certificateRefs: [{name: gw-tls}]}}
---
kind: Service
metadata: {name: gateway-1, namespace: atoll-system, annotations: {atoll.dev/gateway: a/gw}}
spec:
  ports: [{port: 80, targetPort: 20000}, {port: 443, targetPort: 20001}]
";

/// With the certificate of its https listener.
pub(super) fn world(more: &str) -> World {
    let mut world = World::new("");
    world.secret("a", "gw-tls", &["*.example"]);
    world.apply(GATEWAY);
    world.apply(more);
    world
}

pub(super) fn route(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: 2026-01-01T00:00:00Z}}\nspec: {spec}\n"
    )
}

#[test]
fn http_routes_match_by_the_rules_of_the_specification() {
    let rules = "{parentRefs: [{name: gw}], hostnames: [a.example], rules: [
        {backendRefs: [{name: any, port: 80}]},
        {matches: [{path: {value: /p}}], backendRefs: [{name: prefix, port: 80}]},
        {matches: [{path: {type: Exact, value: /p}}], backendRefs: [{name: exact, port: 80}]},
        {matches: [{path: {value: /p}, method: POST}], backendRefs: [{name: post, port: 80}]},
        {matches: [{path: {value: /p}, headers: [{name: X-V, value: '2'}]}], backendRefs: [{name: header, port: 80}]},
        {matches: [{path: {value: /p}, headers: [{name: x-v, value: '2'}, {name: x-w, type: RegularExpression, value: 'b.*'}]}], backendRefs: [{name: headers, port: 80}]},
        {matches: [{path: {value: /p}, queryParams: [{name: q, value: x y}]}], backendRefs: [{name: query, port: 80}]},
        {matches: [{path: {type: RegularExpression, value: '/r/[0-9]+'}}, {path: {value: /also}}], backendRefs: [{name: regex, port: 80}]},
    ]}";
    world(&route("a", "r", rules)).check(&[
        ("GET http://a.example/", "a/any:80"),
        ("GET http://a.example/p", "a/exact:80"),
        ("GET http://a.example/p/", "a/prefix:80"),
        ("GET http://a.example/px", "a/any:80"),
        ("POST http://a.example/p/", "a/post:80"),
        ("POST http://a.example/p/ x-v=2", "a/post:80"),
        ("GET http://a.example/p/x x-v=2", "a/header:80"),
        ("GET http://a.example/p/x x-v=2 x-w=bc", "a/headers:80"),
        ("GET http://a.example/p/x x-v=2 x-w=abc", "a/header:80"),
        ("GET http://a.example/p/x x-v=3", "a/prefix:80"),
        ("GET http://a.example/p/x?a=1&q=x%20y", "a/query:80"),
        ("GET http://a.example/r/12", "a/regex:80"),
        ("GET http://a.example/r/12/x", "a/any:80"),
        ("GET http://a.example/also/x", "a/regex:80"),
        ("GET https://a.example/", "a/any:80"),
        ("GET http://b.example/", "no host"),
    ]);
}

#[test]
fn http_routes_follow_their_gateway() {
    let spec = |parent: &str, hosts: &str| {
        format!(
            "{{parentRefs: [{parent}], hostnames: [{hosts}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}"
        )
    };
    let world = |route: String| world(&route);
    world(route("a", "r", &spec("{name: gw}", ""))).check(&[
        ("GET http://any.where/", "a/web:80"),
        ("GET https://x.example/", "a/web:80"),
        ("GET https://x.y.example/", "a/web:80"),
        ("GET https://any.where/", "no listener"),
        ("GET http://x.example/", "a/web:80"),
    ]);
    world(route("a", "r", &spec("{name: gw, sectionName: https}", "'*.example', b.other"))).check(&[
        ("GET https://x.example/", "a/web:80"),
        ("GET http://x.example/", "no host"),
        ("GET https://b.other/", "no listener"),
    ]);
    world(route("a", "r", &spec("{name: gw, kind: Service}", "a.example")))
        .check(&[("GET http://a.example/", "no host")]);
    // A Gateway lets in its own namespace unless it says otherwise.
    let foreign = route("b", "r", &spec("{name: gw, namespace: a}", "a.example"));
    let mut later = world(foreign.clone());
    later.check(&[("GET http://a.example/", "no host")]);
    later.apply(
        &GATEWAY.replace("protocol: HTTP}", "protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}"),
    );
    later.check(&[("GET http://a.example/", "b/web:80"), ("GET https://a.example/", "no host")]);
    later.apply(
        &GATEWAY.replace("protocol: HTTP}", "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}"),
    );
    later.check(&[("GET http://a.example/", "no host")]);
    // Whatever comes first.
    let mut backwards = World::new(&route("a", "r", &spec("{name: gw}", "a.example")));
    backwards.secret("a", "gw-tls", &["*.example"]);
    backwards.check(&[("GET http://a.example/", "no host")]);
    backwards.apply(GATEWAY);
    backwards.check(&[("GET http://a.example/", "a/web:80")]);
    backwards.apply(&GATEWAY.replace("atoll.dev/gateway", "other.dev/gateway"));
    backwards.check(&[("GET http://a.example/", "no host")]);
    backwards.apply(GATEWAY);
    backwards.index.delete(Kind::Gateway, &Id::new("a", "gw"));
    backwards.check(&[("GET http://a.example/", "no host")]);
}

#[test]
fn a_listener_shows_its_own_certificate_and_is_silent_without_one() {
    let mut world = World::new(GATEWAY);
    assert!(world.table.entries.get(&20001).is_none(), "no certificate, no listener");
    assert!(world.table.entries.get(&20000).is_some());
    world.secret("b", "gw-tls", &["a.example"]);
    assert!(world.table.entries.get(&20001).is_none(), "another namespace's");
    world.secret("a", "gw-tls", &["a.example"]);
    let entry = world.table.entries.get(&20001).unwrap();
    let listener = entry.listener("a.example").unwrap();
    assert!(listener.certificate(Some("a.example")).unwrap().covers("a.example"));
    // It is the Gateway's, and says nothing at the shared address.
    assert_eq!(world.shown("a.example"), "none");
    world.index.delete(Kind::Secret, &Id::new("a", "gw-tls"));
    assert!(world.table.entries.get(&20001).is_none());
}

#[test]
fn http_route_filters_and_backends() {
    let rules = "{parentRefs: [{name: gw}], hostnames: [a.example], rules: [
        {matches: [{path: {value: /moved}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]},
        {matches: [{path: {value: /tls}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]},
        {matches: [{path: {value: /port}}], filters: [{type: RequestRedirect, requestRedirect: {port: 8443, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]},
        {matches: [{path: {value: /v1}}], filters: [{type: URLRewrite, urlRewrite: {hostname: internal, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], backendRefs: [{name: web, port: 80}]},
        {matches: [{path: {value: /none}}]},
        {matches: [{path: {value: /zero}}], backendRefs: [{name: web, port: 80, weight: 0}]},
        {matches: [{path: {value: /cross}}], backendRefs: [{name: web, port: 80, namespace: b}]},
        {matches: [{path: {value: /kind}}], backendRefs: [{name: web, port: 80, kind: Bucket}]},
        {matches: [{path: {value: /mirror}}], filters: [{type: RequestMirror}], backendRefs: [{name: web, port: 80}]},
        {matches: [{path: {type: RegularExpression, value: '('}}], backendRefs: [{name: web, port: 80}]},
        {backendRefs: [{name: web, port: 80}]},
    ]}";
    let world = world(&route("a", "r", rules));
    world.check(&[
        ("GET http://a.example:8080/moved/x?q=1", "301 http://b.example:8080/new/x?q=1"),
        ("GET http://a.example:8080/tls/x", "302 https://a.example/tls/x"),
        ("GET http://a.example/port", "302 http://a.example:8443/x"),
        ("GET http://a.example/v1/x", "a/web:80 /x"),
        ("GET http://a.example/v1", "a/web:80 /"),
        ("GET http://a.example/none", "refused: the route names no backend"),
        ("GET http://a.example/zero", "no target"),
        ("GET http://a.example/cross", "refused: backend web: no ReferenceGrant of b permits it"),
        ("GET http://a.example/kind", "refused: backend web: only a Service can be one"),
        ("GET http://a.example/mirror", "refused: filter RequestMirror is not served"),
        ("GET http://a.example/else", "a/web:80"),
    ]);
    let problems: Vec<_> = world
        .index
        .problems(Kind::HttpRoute, &Id::new("a", "r"))
        .iter()
        .map(|problem| problem.0.as_str())
        .collect();
    assert_eq!(
        problems,
        [
            "rules[8]: filter RequestMirror is not served",
            "rules[9].matches[0]: \"^(?:()$\" is not a regular expression",
        ]
    );
}
