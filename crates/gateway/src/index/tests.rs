//! Objects in YAML in, requests in, what they are answered with out.

mod certificates;
mod endpoints;
mod gateways;
mod httproute;
mod ingress;

use http::{HeaderMap, Method};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::*;
use crate::certificate::tests::pair;
use crate::gateway_api::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TLSRoute,
};
use crate::lean::{Lean, Parts};
use crate::object::{self, Secret};
use crate::route::{Redirect, Request, Route, Target, View};
use crate::table::Found;

pub(crate) struct World {
    pub index: Index,
    pub table: Arc<Table>,
}

/// As it is watched, which loses nothing that is wanted of the whole object.
fn watched<K>(document: serde_yaml_ng::Value) -> Object
where
    K: Parts + kube::Resource + DeserializeOwned + Into<Object>,
{
    use serde_yaml_ng::from_value;
    let lean = from_value::<Lean<K>>(document.clone()).unwrap().object;
    assert_eq!(lean, from_value::<K>(document).unwrap().into());
    lean
}

fn parse(document: serde_yaml_ng::Value) -> Object {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::api::networking::v1::Ingress;
    match document["kind"].as_str().unwrap() {
        "Ingress" => watched::<Ingress>(document),
        "Service" => watched::<Service>(document),
        "EndpointSlice" => watched::<EndpointSlice>(document),
        "HTTPRoute" => watched::<HTTPRoute>(document),
        "Gateway" => watched::<Gateway>(document),
        "GatewayClass" => watched::<GatewayClass>(document),
        "GRPCRoute" => watched::<GRPCRoute>(document),
        "TLSRoute" => watched::<TLSRoute>(document),
        "ReferenceGrant" => watched::<ReferenceGrant>(document),
        "BackendTLSPolicy" => watched::<BackendTLSPolicy>(document),
        "Namespace" => watched::<Namespace>(document),
        "ConfigMap" => watched::<ConfigMap>(document),
        other => panic!("{other}"),
    }
}

impl World {
    fn new(yaml: &str) -> Self {
        let table = Arc::new(Table::default());
        let mut world = Self { index: Index::new(Scope::default(), table.clone()), table };
        world.apply(yaml);
        world
    }

    fn apply(&mut self, yaml: &str) {
        for document in serde_yaml_ng::Deserializer::from_str(yaml) {
            let document = serde_yaml_ng::Value::deserialize(document).unwrap();
            if !document.is_null() {
                self.index.apply(parse(document));
            }
        }
    }

    fn secret(&mut self, namespace: &str, name: &str, names: &[&str]) {
        let (certificate, key) = pair(names);
        self.index.apply(Object::Secret(Secret {
            id: Id::new(namespace, name),
            certificate: certificate.into(),
            key: key.into(),
            acme: false,
        }));
    }

    /// `GET http://host/path?query header=value ...`
    fn ask(&self, request: &str) -> String {
        let mut words = request.split(' ');
        let method: Method = words.next().unwrap().parse().unwrap();
        let uri: http::Uri = words.next().unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for header in words {
            let (name, value) = header.split_once('=').unwrap();
            headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let secure = uri.scheme_str() == Some("https");
        let shared = View::shared(secure);
        // By the Gateway of these tests where there is one, else by the shared address.
        let entry = self.table.entries.get(&if secure { 20001 } else { 20000 });
        let Some(view) = entry.map_or(Some(shared), |entry| entry.view(uri.host().unwrap(), secure)) else {
            return "no listener".to_owned();
        };
        let request = Request {
            host: uri.host().unwrap(),
            path: uri.path(),
            query: uri.query(),
            method: &method,
            headers: &headers,
            secure: uri.scheme_str() == Some("https"),
            view,
        };
        let route = match self.table.find(&request) {
            Found::Route(route) => route,
            Found::NoRoute => return "no route".to_owned(),
            Found::NoHost => return "no host".to_owned(),
        };
        let action = &route.action;
        if action.to_https && !request.secure {
            return "to https".to_owned();
        }
        if let Some(redirect) = &action.redirect {
            return format!(
                "{} {}",
                redirect.status,
                redirect.location(&route.path, &request, uri.port_u16())
            );
        }
        let rewritten = action.rewrite_path.as_ref().map(|rewrite| rewrite.apply(&route.path, request.path));
        let target = match action.targets.pick() {
            Some(Target::Service(backend, _)) => {
                let endpoints: Vec<_> = backend.endpoints().iter().map(ToString::to_string).collect();
                format!("{backend} [{}]", endpoints.join(" "))
            }
            Some(Target::Refused(reason)) => format!("refused: {reason}"),
            None => "no target".to_owned(),
        };
        rewritten.map_or(target.clone(), |path| format!("{target} {path}"))
    }

    fn check(&self, cases: &[(&str, &str)]) {
        for (request, wanted) in cases {
            let got = self.ask(request);
            let got = if wanted.contains('[') { got } else { got.replace(" []", "") };
            assert_eq!(got, *wanted, "{request}");
        }
    }

    fn shown(&self, name: &str) -> String {
        self.table.certificate(Some(name)).map_or("none".to_owned(), |certificate| format!("{certificate:?}"))
    }

    fn ingress_problems(&self, namespace: &str, name: &str) -> Vec<String> {
        let id = Id::new(namespace, name);
        self.index.problems(Kind::Ingress, &id).iter().map(|problem| problem.0.clone()).collect()
    }

    fn ingress_notes(&self, namespace: &str, name: &str) -> Vec<String> {
        let id = Id::new(namespace, name);
        self.index.notes(Kind::Ingress, &id).iter().map(|note| note.0.clone()).collect()
    }
}

fn check(yaml: &str, cases: &[(&str, &str)]) {
    World::new(yaml).check(cases);
}

/// An Ingress with paths `type path service:port`.
fn ingress(namespace: &str, name: &str, created: u32, host: &str, paths: &[&str], more: &str) -> String {
    let mut yaml = format!(
        "---\nkind: Ingress\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: 2026-01-01T00:00:{created:02}Z}}\nspec:\n{more}\n  rules:\n  - host: \"{host}\"\n    http:\n      paths:\n"
    );
    for path in paths {
        let words: Vec<&str> = path.split(' ').collect();
        let (service, port) = words[2].split_once(':').unwrap();
        let port =
            if port.parse::<u16>().is_ok() { format!("number: {port}") } else { format!("name: {port}") };
        yaml += &format!(
            "      - {{path: '{}', pathType: {}, backend: {{service: {{name: {service}, port: {{{port}}}}}}}}}\n",
            words[1], words[0]
        );
    }
    yaml
}

fn annotated(yaml: &str, annotations: &[(&str, &str)]) -> String {
    let all: Vec<String> = annotations
        .iter()
        .map(|(name, value)| format!("nginx.ingress.kubernetes.io/{name}: '{value}'"))
        .collect();
    yaml.replace("metadata: {", &format!("metadata: {{annotations: {{{}}}, ", all.join(", ")))
}

fn service(namespace: &str, name: &str, ports: &str) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{ports}]}}\n"
    )
}

fn slice(namespace: &str, name: &str, service: &str, ports: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!("{{addresses: ['{address}']}}")).collect();
    format!(
        "---\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{ports}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

#[test]
fn ingress_paths_match_by_element_and_the_longest_wins() {
    let paths = [
        "Prefix / root:80",
        "Prefix /foo foo:80",
        "Prefix /foo/bar/ bar:80",
        "Exact /foo exact:80",
        "Exact /only only:80",
    ];
    check(
        &ingress("a", "i", 1, "a.example", &paths, ""),
        &[
            ("GET http://a.example/", "a/root:80"),
            ("GET http://a.example/x", "a/root:80"),
            ("GET http://a.example/foo", "a/exact:80"),
            ("GET http://a.example/foo/", "a/foo:80"),
            ("GET http://a.example/foo/x", "a/foo:80"),
            ("GET http://a.example/foobar", "a/root:80"),
            ("GET http://a.example/foo/bar", "a/bar:80"),
            ("GET http://a.example/foo/bar/", "a/bar:80"),
            ("GET http://a.example/foo/bar/x/y", "a/bar:80"),
            ("GET http://a.example/foo/barx", "a/foo:80"),
            ("GET http://a.example/only", "a/only:80"),
            ("GET http://a.example/only/", "a/root:80"),
            ("GET http://a.example/FOO", "a/root:80"),
            ("GET http://b.example/", "no host"),
        ],
    );
    check(
        &ingress("a", "i", 1, "a.example", &["Prefix /foo foo:80"], ""),
        &[("GET http://a.example/", "no route"), ("GET http://a.example/foo?x=/y", "a/foo:80")],
    );
}

#[test]
fn a_wildcard_host_of_an_ingress_is_one_label() {
    let wild = ingress("a", "wild", 1, "*.example", &["Prefix / wild:80"], "");
    let own = ingress("b", "own", 2, "own.example", &["Prefix /x own:80"], "");
    check(
        &(wild + &own),
        &[
            ("GET http://a.example/", "a/wild:80"),
            ("GET http://a.b.example/", "no host"),
            ("GET http://example/", "no host"),
            ("GET http://own.example/x", "b/own:80"),
            // Not the wildcard's, which is another tenant's.
            ("GET http://own.example/", "no route"),
        ],
    );
}

#[test]
fn only_our_class_is_served() {
    let of = |class: &str| ingress("a", "i", 1, "a.example", &["Prefix / web:80"], class);
    check(&of(""), &[("GET http://a.example/", "a/web:80")]);
    check(&of("  ingressClassName: atoll"), &[("GET http://a.example/", "a/web:80")]);
    check(&of("  ingressClassName: haproxy"), &[("GET http://a.example/", "no host")]);
    let old = |class: &str| {
        of("")
            .replace("{name: i", &format!("{{annotations: {{kubernetes.io/ingress.class: {class}}}, name: i"))
    };
    check(&old("atoll"), &[("GET http://a.example/", "a/web:80")]);
    check(&old("haproxy"), &[("GET http://a.example/", "no host")]);
    let mut world = World::new(&of(""));
    world.apply(&of("  ingressClassName: haproxy"));
    world.check(&[("GET http://a.example/", "no host")]);
}

#[test]
fn default_backends_take_the_rest() {
    let default = "  defaultBackend: {service: {name: default, port: {number: 80}}}";
    let with_rules = ingress("a", "i", 1, "a.example", &["Prefix /foo foo:80"], default);
    check(
        &with_rules,
        &[
            ("GET http://a.example/foo", "a/foo:80"),
            ("GET http://a.example/x", "a/default:80"),
            ("GET http://b.example/", "no host"),
        ],
    );
    let alone = format!("---\nkind: Ingress\nmetadata: {{name: all, namespace: b}}\nspec:\n{default}\n");
    check(
        &(with_rules + &alone),
        &[("GET http://a.example/x", "a/default:80"), ("GET http://x.y.other/z", "b/default:80")],
    );
}

#[test]
fn the_older_claim_wins() {
    let first = ingress("b", "first", 1, "a.example", &["Prefix / first:80"], "");
    let second = ingress("a", "second", 2, "a.example", &["Prefix / second:80", "Prefix /more more:80"], "");
    for order in [format!("{first}{second}"), format!("{second}{first}")] {
        let mut world = World::new(&order);
        world.check(&[("GET http://a.example/", "b/first:80"), ("GET http://a.example/more", "b/first:80")]);
        world.index.delete(Kind::Ingress, &Id::new("b", "first"));
        world.check(&[("GET http://a.example/", "a/second:80")]);
    }
    // Of one age: by namespace, then name.
    let same = |namespace: &str, name: &str| {
        ingress(namespace, name, 1, "a.example", &[&format!("Prefix / {name}:80")], "")
    };
    check(&(same("b", "x") + &same("a", "z") + &same("a", "y")), &[("GET http://a.example/", "a/y:80")]);
}

#[test]
fn rewrites_follow_nginx() {
    let rewritten = |path: &str, target: &str| {
        annotated(
            &ingress("a", "i", 1, "a.example", &[path], ""),
            &[("rewrite-target", target), ("use-regex", "true")],
        )
    };
    check(
        &rewritten("ImplementationSpecific /api(/|$)(.*) web:80", "/$2"),
        &[
            ("GET http://a.example/api", "a/web:80 /"),
            ("GET http://a.example/api/x/y", "a/web:80 /x/y"),
            ("GET http://a.example/API/x", "a/web:80 /x"),
            ("GET http://a.example/apix", "no route"),
        ],
    );
    let implied = annotated(
        &ingress("a", "i", 1, "a.example", &["ImplementationSpecific /()(.*) web:80"], ""),
        &[("rewrite-target", "/app/$2")],
    );
    check(&implied, &[("GET http://a.example/x", "a/web:80 /app/x")]);
    let plain = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix /old web:80"], ""),
        &[("rewrite-target", "/new")],
    );
    check(&plain, &[("GET http://a.example/old/x", "a/web:80 /new")]);
    // The longest expression first, whatever the order.
    let two = annotated(
        &ingress(
            "a",
            "i",
            1,
            "a.example",
            &["Prefix /a.* short:80", "Prefix /a/b/.* long:80", "Exact /a/b/c exact:80"],
            "",
        ),
        &[("use-regex", "true")],
    );
    check(
        &two,
        &[
            ("GET http://a.example/a/x", "a/short:80"),
            ("GET http://a.example/a/b/x", "a/long:80"),
            ("GET http://a.example/a/b/c", "a/exact:80"),
        ],
    );
}

/// The route of `http://a.example` and a path.
fn found(world: &World, path: &str) -> Arc<Route> {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request = Request {
        host: "a.example",
        path,
        query: None,
        method: &method,
        headers: &headers,
        secure: false,
        view: View::shared(false),
    };
    let Found::Route(route) = world.table.find(&request) else { panic!("nothing at {path}") };
    route
}

#[test]
fn annotations_are_kept_by_routes_and_bad_ones_are_told() {
    let yaml = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""),
        &[
            ("proxy-body-size", "8m"),
            ("proxy-read-timeout", "3600"),
            ("proxy-send-timeout", "soon"),
            ("backend-protocol", "GRPC"),
            ("upstream-vhost", "inner.example"),
            ("limit-rps", "5"),
        ],
    );
    let world = World::new(&yaml);
    world.check(&[("GET http://a.example/", "a/web:80")]);
    assert_eq!(world.ingress_problems("a", "i"), [""; 0]);
    assert_eq!(
        world.ingress_notes("a", "i"),
        ["annotation proxy-send-timeout: \"soon\" is not a time to wait, such as 60 or 60s; it is ignored"]
    );
    let route = found(&world, "/");
    let limits = &route.action.limits;
    assert_eq!((limits.body, limits.read.unwrap().as_secs(), limits.send), (Some(8 << 20), 3600, None));
    assert_eq!((route.action.grpc, route.action.rewrite_host.as_deref()), (true, Some("inner.example")));
    assert!(route.action.extra.as_ref().unwrap().clients.is_some());
}

#[test]
fn few_routes_carry_anything_extra() {
    let yaml = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""),
        &[("proxy-body-size", "8m"), ("server-snippet", "client_header_buffer_size 64k;")],
    );
    assert!(found(&World::new(&yaml), "/").action.extra.is_none());
}

#[test]
fn an_authentication_that_is_not_understood_closes_every_path() {
    let yaml = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix / web:80", "Exact /x web:80"], ""),
        &[("auth-url", "http://auth.b.svc/")],
    );
    let world = World::new(&yaml);
    assert!(world.ingress_problems("a", "i")[0].contains("the Ingress' own namespace"));
    world.check(&[
        ("GET http://a.example/", "refused: its annotation auth-url can't be followed"),
        ("GET http://a.example/x", "refused: its annotation auth-url can't be followed"),
    ]);
}

#[test]
fn who_may_log_in_is_watched_while_it_is_wanted() {
    let web = ingress("a", "i", 1, "a.example", &["Prefix / web:80"], "");
    let wants = |secret: &str| annotated(&web, &[("auth-type", "basic"), ("auth-secret", secret)]);
    let users = |secret: &str, data: Option<&[(&str, &str)]>| {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        let data = data.map(|data| data.iter().map(pair).collect());
        Object::Users(object::Users { id: Id::new("a", secret), data })
    };
    let good = [("auth", "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nbob:secret\n")];
    let mut world = World::new("");
    world.index.apply(users("s", Some(&good)));
    assert!(world.index.objects().is_empty(), "nobody wants it");
    world.apply(&wants("s"));
    let generation = world.index.users_generation();
    assert_eq!(world.index.wanted_users().collect::<Vec<_>>(), [&Id::new("a", "s")]);
    world.check(&[("GET http://a.example/", "refused: who may log in is not known yet")]);
    assert_eq!(world.ingress_problems("a", "i"), [""; 0]);
    world.index.apply(users("s", None));
    world.check(&[("GET http://a.example/", "refused: its annotation auth-secret can't be followed")]);
    let missing = "annotation auth-secret: make Secret s, of at most 128 KiB; nobody is let in";
    assert_eq!(world.ingress_problems("a", "i"), [missing]);
    world.index.apply(users("s", Some(&[("other", "x")])));
    let empty = "annotation auth-secret: Secret s has no key auth; nobody is let in";
    assert_eq!(world.ingress_problems("a", "i"), [empty]);
    world.index.apply(users("s", Some(&good)));
    world.check(&[("GET http://a.example/", "a/web:80")]);
    assert!(found(&world, "/").action.extra.as_ref().unwrap().login.is_some());
    assert!(
        world.ingress_notes("a", "i")[0].starts_with("annotation auth-secret: 1 of Secret s can't log in")
    );
    // Kept over a change of the Ingress that still wants it.
    world.apply(&wants("a/s"));
    assert!(found(&world, "/").action.extra.as_ref().unwrap().login.is_some());
    assert!(world.index.users_generation() > generation);
    world.apply(&wants("b/s"));
    world.check(&[("GET http://a.example/", "refused: its annotation auth-secret can't be followed")]);
    assert_eq!(world.index.wanted_users().count(), 0);
    world.apply(&web);
    assert_eq!(world.index.objects().len(), 1, "the users are forgotten");
}

#[test]
fn a_service_that_is_asked_is_found_as_backends_are() {
    let yaml = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""),
        &[("auth-url", "http://auth.a.svc:81/")],
    );
    let mut world = World::new(&yaml);
    let check = found(&world, "/").action.extra.as_ref().unwrap().check.clone().unwrap();
    assert!(check.backend.endpoints().is_empty());
    world.apply(&service("a", "auth", "{name: http, port: 81}"));
    world.apply(&slice("a", "auth-1", "auth", "{name: http, port: 8081}", &["10.0.0.1"]));
    assert_eq!(check.backend.endpoints().len(), 1);
    world.check(&[("GET http://a.example/", "a/web:80")]);
}

#[test]
fn an_app_s_root_is_elsewhere_whatever_its_paths_are() {
    let paths = ["Prefix /app web:80", "Exact / other:80"];
    let yaml = annotated(&ingress("a", "i", 1, "a.example", &paths, ""), &[("app-root", "/app")]);
    let world = World::new(&yaml);
    assert!(found(&world, "/").action.extra.as_ref().unwrap().redirect.is_some());
    assert!(found(&world, "/app").action.extra.is_none());
}

#[test]
fn a_canary_takes_no_traffic() {
    let main = ingress("a", "main", 2, "a.example", &["Prefix / web:80"], "");
    let canary = annotated(
        &ingress("a", "canary", 1, "a.example", &["Prefix / next:80"], ""),
        &[("canary", "true"), ("canary-weight", "10")],
    );
    let world = World::new(&(main + &canary));
    world.check(&[("GET http://a.example/", "a/web:80")]);
    assert_eq!(world.ingress_notes("a", "canary").len(), 1);
}

#[test]
fn a_workspace_has_one_share_and_the_operator_as_much_as_there_is() {
    let limits = tenant::Limits { concurrent: 1, ..tenant::Limits::default() };
    let table = Arc::new(Table::default());
    let scope = Scope { workspace_limits: limits, ..Scope::default() };
    let mut world = World { index: Index::new(scope, table.clone()), table };
    let two =
        ["i", "j"].map(|name| ingress("a", name, 1, &format!("{name}.example"), &["Prefix / web:80"], ""));
    world.apply(&two.concat());
    let owner = |world: &World, name| world.table.owners.get(&(Kind::Ingress, Id::new("a", name))).unwrap();
    let tenant = owner(&world, "i").tenant.clone();
    assert!(Arc::ptr_eq(&tenant, &owner(&world, "j").tenant));
    let full = || {
        let _one = tenant.admit().unwrap();
        tenant.admit().is_err()
    };
    assert!(full(), "a namespace that isn't known yet is a workspace");
    let namespace =
        |labels: &str| format!("---\nkind: Namespace\nmetadata: {{name: a, labels: {{{labels}}}}}\n");
    world.apply(&namespace(""));
    assert!(!full());
    world.apply(&namespace("atoll.dev/workspace: shop"));
    assert!(full());
    assert!(Arc::ptr_eq(&tenant, &owner(&world, "i").tenant));
    world.index.delete(Kind::Namespace, &Id::new("", "a"));
    assert!(world.table.tenants.is_empty());
}

#[test]
fn a_workspace_s_plan_says_what_it_may_take() {
    let limits = tenant::Limits { concurrent: 2, ..tenant::Limits::default() };
    let table = Arc::new(Table::default());
    let scope = Scope { workspace_limits: limits, ..Scope::default() };
    let mut world = World { index: Index::new(scope, table.clone()), table };
    world.apply(&ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""));
    let owner = world.table.owners.get(&(Kind::Ingress, Id::new("a", "i"))).unwrap();
    let room = || {
        let all: Vec<_> = (0..10).map_while(|_| owner.tenant.admit().ok()).collect();
        all.len()
    };
    let mut namespace = |labels: &str, most: &str| {
        let annotation = if most.is_empty() {
            String::new()
        } else {
            format!("policy.atoll.dev/gateway-concurrent: {most}")
        };
        world.apply(&format!("---\nkind: Namespace\nmetadata: {{name: a, labels: {{{labels}}}, annotations: {{{annotation}}}}}\n"));
        room()
    };
    let workspace = "atoll.dev/workspace: shop";
    for (most, wanted) in [("", 2), ("'5'", 5), ("'1'", 1), ("'0'", 10), ("x", 2), ("'3'", 3), ("", 2)] {
        assert_eq!(namespace(workspace, most), wanted, "{most}");
    }
    // Who has no plan isn't limited by one.
    assert_eq!(namespace("", "'1'"), 10);
}

#[test]
fn one_bad_path_costs_only_itself() {
    let yaml = annotated(
        &ingress("a", "i", 1, "a.example", &["Prefix /( bad:80", "Prefix /good web:80"], ""),
        &[("use-regex", "true")],
    );
    let world = World::new(&yaml);
    world.check(&[("GET http://a.example/good", "a/web:80"), ("GET http://a.example/x", "no route")]);
    assert_eq!(world.ingress_problems("a", "i"), ["\"^/(\" is not a regular expression"]);
}

#[test]
fn clear_text_is_redirected_where_there_is_tls() {
    let tls = "  tls: [{hosts: [a.example], secretName: s}]";
    let yaml = |more: &str| ingress("a", "i", 1, "a.example", &["Prefix / web:80"], more);
    let redirected = [("GET http://a.example/", "to https"), ("GET https://a.example/", "a/web:80")];
    let served = [("GET http://a.example/", "a/web:80"), ("GET https://a.example/", "a/web:80")];
    check(&yaml(tls), &redirected);
    check(&yaml(""), &served);
    check(&annotated(&yaml(tls), &[("ssl-redirect", "false")]), &served);
    check(&annotated(&yaml(""), &[("ssl-redirect", "true")]), &served);
    check(&annotated(&yaml(""), &[("force-ssl-redirect", "true")]), &redirected);
    check(&yaml("  tls: [{hosts: [b.example]}]"), &served);
    check(&yaml("  tls: [{secretName: s}]"), &redirected);
}

#[test]
fn endpoints_come_from_slices_by_the_ports_name() {
    let mut world = World::new(&ingress(
        "a",
        "i",
        1,
        "a.example",
        &["Prefix / web:80", "Prefix /n web:admin", "Prefix /x web:81"],
        "",
    ));
    world.check(&[("GET http://a.example/", "a/web:80 []")]);
    world.apply(&slice(
        "a",
        "web-1",
        "web",
        "{name: http, port: 8080}, {name: admin, port: 9090}",
        &["10.0.0.2", "10.0.0.1"],
    ));
    world.check(&[("GET http://a.example/", "a/web:80 []")]);
    world.apply(&service("a", "web", "{name: http, port: 80, targetPort: app}, {name: admin, port: 90}"));
    let all = [
        ("GET http://a.example/", "a/web:80 [10.0.0.1:8080 10.0.0.2:8080]"),
        ("GET http://a.example/n", "a/web:admin [10.0.0.1:9090 10.0.0.2:9090]"),
        ("GET http://a.example/x", "a/web:81 []"),
    ];
    world.check(&all);
    world.apply(&slice("a", "web-2", "web", "{name: http, port: 8081}", &["10.0.0.3"]));
    world.check(&[("GET http://a.example/", "a/web:80 [10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8081]")]);
    world.index.delete(Kind::EndpointSlice, &Id::new("a", "web-2"));
    world.check(&all);
    // Another namespace's slice of that name is another Service's.
    world.apply(&slice("b", "web-3", "web", "{name: http, port: 8080}", &["10.0.0.9"]));
    world.check(&all);
    world.apply(&slice("a", "web-1", "other", "{name: http, port: 8080}", &["10.0.0.1"]));
    world.check(&[("GET http://a.example/", "a/web:80 []")]);
    world.index.delete(Kind::Service, &Id::new("a", "web"));
    world.check(&[("GET http://a.example/", "a/web:80 []")]);
}

#[test]
fn endpoints_that_are_not_ready_or_on_their_way_out_get_nothing() {
    let yaml = ingress("a", "i", 1, "a.example", &["Prefix / web:80"], "")
        + &service("a", "web", "{port: 80}")
        + "---\nkind: EndpointSlice\nmetadata: {name: s, namespace: a, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints:\n- {addresses: [10.0.0.1], conditions: {ready: true}}\n- {addresses: [10.0.0.2], conditions: {ready: false}}\n- {addresses: [10.0.0.3], conditions: {ready: true, terminating: true}}\n- {addresses: [10.0.0.4]}\n";
    check(&yaml, &[("GET http://a.example/", "a/web:80 [10.0.0.1:8080 10.0.0.4:8080]")]);
}

#[test]
fn an_external_name_is_never_a_backend() {
    let yaml = ingress("a", "i", 1, "a.example", &["Prefix / web:80"], "")
        + &service("a", "web", "{port: 80}")
            .replace("spec: {", "spec: {type: ExternalName, externalName: db.other, ")
        + &slice("a", "s", "web", "{port: 80}", &["10.0.0.1"]);
    check(&yaml, &[("GET http://a.example/", "a/web:80 []")]);
}

#[test]
fn an_update_moves_hosts_and_leaves_nothing() {
    let mut world = World::new(&ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""));
    let before = world.index.generation();
    world.apply(&ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""));
    assert_eq!(world.index.generation(), before, "the same again is no change");
    world.apply(&ingress("a", "i", 1, "b.example", &["Prefix / other:80"], "  tls: [{secretName: s}]"));
    world.check(&[("GET http://a.example/", "no host"), ("GET https://b.example/", "a/other:80")]);
    world.secret("a", "s", &["b.example"]);
    assert_eq!(world.table.certificates.len(), 1);
    world.index.delete(Kind::Secret, &Id::new("a", "s"));
    world.index.delete(Kind::Ingress, &Id::new("a", "i"));
    let Index { objects, placed, hosts, secrets, services, users, .. } = &world.index;
    let left = [objects.len(), placed.len(), hosts.len(), secrets.len(), services.len(), users.len()];
    assert_eq!(left, [0; 6]);
    let Table { hosts, certificates, owners, .. } = &*world.table;
    assert_eq!([hosts.len(), certificates.len(), owners.len()], [0; 3]);
}

#[test]
fn a_full_list_forgets_what_it_does_not_name() {
    let yaml = ingress("a", "i", 1, "a.example", &["Prefix / web:80"], "")
        + &ingress("a", "j", 1, "b.example", &["Prefix / web:80"], "");
    let mut world = World::new(&yaml);
    world.index.retain(Kind::Service, &HashSet::new());
    world.index.retain(Kind::Ingress, &HashSet::from([Id::new("a", "j")]));
    world.check(&[("GET http://a.example/", "no host"), ("GET http://b.example/", "a/web:80")]);
}

#[test]
fn an_update_keeps_an_objects_counters() {
    let mut world = World::new(&ingress("a", "i", 1, "a.example", &["Prefix / web:80"], ""));
    let key = (Kind::Ingress, Id::new("a", "i"));
    let before = world.table.owners.get(&key).unwrap();
    world.apply(&ingress("a", "i", 1, "b.example", &["Prefix / web:80"], ""));
    assert!(Arc::ptr_eq(&before, &world.table.owners.get(&key).unwrap()));
}

#[test]
fn a_name_is_shown_its_own_certificate_or_the_default_one() {
    let default = r#"Certificate { names: ["*.apps.test"], .. }"#;
    let own = r#"Certificate { names: ["a.example"], .. }"#;
    let tls = "  tls: [{hosts: [a.example], secretName: s}]";
    let mut world = World::new(&ingress("a", "i", 1, "a.example", &["Prefix / web:80"], tls));
    assert_eq!(world.shown("a.example"), "none");
    world.secret(api::names::SYSTEM_NAMESPACE, api::names::GATEWAY_CERTIFICATE, &["*.apps.test"]);
    assert_eq!((world.shown("a.example").as_str(), world.shown("x.apps.test").as_str()), (default, default));
    world.secret("a", "s", &["a.example"]);
    assert_eq!((world.shown("a.example").as_str(), world.shown("x.apps.test").as_str()), (own, default));
    // A Secret that doesn't cover the host, is broken, or is another namespace's.
    world.secret("a", "s", &["b.example"]);
    assert_eq!(world.shown("a.example"), default);
    world.secret("a", "s", &["a.example"]);
    world.index.apply(Object::Secret(Secret {
        id: Id::new("a", "s"),
        certificate: b"x".to_vec().into(),
        key: b"y".to_vec().into(),
        acme: false,
    }));
    assert_eq!(world.shown("a.example"), default);
    world.secret("b", "s", &["a.example"]);
    assert_eq!(world.shown("a.example"), default);
}

#[test]
fn nobody_puts_a_certificate_on_anothers_host() {
    let tls = "  tls: [{secretName: s}]";
    let victim = ingress("victim", "i", 1, "a.w.example", &["Prefix / web:80"], "");
    let same_host = ingress("evil", "i", 2, "a.w.example", &["Prefix /evil web:80"], tls);
    let wildcard = ingress("evil", "w", 0, "*.w.example", &["Prefix / web:80"], tls);
    let mut world = World::new(&(victim + &same_host + &wildcard));
    world.secret("evil", "s", &["a.w.example", "*.w.example"]);
    assert_eq!(world.shown("a.w.example"), "none");
    assert_ne!(world.shown("b.w.example"), "none");
    world.index.delete(Kind::Ingress, &Id::new("victim", "i"));
    assert_ne!(world.shown("a.w.example"), "none");
}

#[test]
fn a_snapshots_objects_make_the_same_table() {
    let yaml = ingress("a", "i", 1, "a.example", &["Prefix / web:http"], "  tls: [{secretName: s}]")
        + &service("a", "web", "{name: http, port: 80}")
        + &slice("a", "s", "web", "{name: http, port: 8080}", &["10.0.0.1"])
        + "---"
        + httproute::GATEWAY
        + &httproute::route(
            "a",
            "r",
            "{parentRefs: [{name: gw}], hostnames: [r.example], rules: [{backendRefs: [{name: web, port: 80}]}]}",
        );
    let mut world = World::new(&yaml);
    world.secret("a", "s", &["a.example"]);
    let text =
        serde_json::to_string(&world.index.objects().iter().map(|object| &**object).collect::<Vec<_>>())
            .unwrap();
    let mut again = World::new("");
    for object in serde_json::from_str::<Vec<Object>>(&text).unwrap() {
        again.index.apply(object);
    }
    for world in [&world, &again] {
        world.check(&[
            ("GET https://a.example/", "a/web:http [10.0.0.1:8080]"),
            ("GET http://r.example/", "a/web:80 [10.0.0.1:8080]"),
        ]);
        assert_ne!(world.shown("a.example"), "none");
    }
    let generation = again.index.generation();
    world.index.objects().iter().for_each(|object| again.index.apply(Object::clone(object)));
    assert_eq!(again.index.generation(), generation);
}

#[test]
fn redirects_leave_out_the_usual_port() {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request = Request {
        host: "a",
        path: "/x",
        query: Some("q"),
        method: &method,
        headers: &headers,
        secure: false,
        view: View::shared(false),
    };
    let to = |port| Redirect { scheme: Some("https".into()), port: Some(port), ..Redirect::default() };
    let path = crate::route::PathMatch::prefix("/");
    assert_eq!(to(443).location(&path, &request, Some(80)), "https://a/x?q");
    assert_eq!(to(8443).location(&path, &request, Some(80)), "https://a:8443/x?q");
}
