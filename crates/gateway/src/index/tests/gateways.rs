//! Gateways of their own: whose a host is, who may refer to what, and what
//! objects are told about themselves.

use serde_json::{Value, json};

use super::httproute::{GATEWAY, route, world};
use super::{World, ingress};
use crate::certificate::tests::pair;
use crate::entrance::Desired;
use crate::object::{self, Id, Kind, Object};

const NOW: &str = "2026-01-01T00:00:00Z";

fn namespace(name: &str, labels: &str) -> String {
    format!("---\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

fn workspace(name: &str) -> String {
    namespace(name, &format!("atoll.dev/workspace: w-{name}"))
}

fn service(namespace: &str, name: &str) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

impl World {
    fn status(&self, kind: Kind, namespace: &str, name: &str) -> Value {
        self.index.status(kind, &Id::new(namespace, name), &Value::Null, NOW).unwrap_or_default()
    }

    /// `Accepted=True Accepted ...` of the first parent, listener or the object.
    fn conditions(&self, kind: Kind, namespace: &str, name: &str, place: &str) -> Vec<String> {
        let status = self.status(kind, namespace, name);
        let conditions = status.pointer(place).cloned().unwrap_or_default();
        let conditions = conditions["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        conditions
            .iter()
            .map(|one| format!("{}={} {}", text(&one["type"]), text(&one["status"]), text(&one["reason"])))
            .collect()
    }

    fn route_conditions(&self, kind: Kind, namespace: &str, name: &str) -> Vec<String> {
        self.conditions(kind, namespace, name, "/parents/0")
    }
}

const FINE: [&str; 2] = ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"];

#[test]
fn a_host_is_the_workspaces_that_had_it_first() {
    let mut world = World::new(&(workspace("a") + &workspace("b")));
    let host = "shop.example";
    world.apply(&ingress("b", "thief", 2, host, &["Prefix /steal web:80"], ""));
    world.check(&[("GET http://shop.example/steal", "b/web:80")]);
    // The older claim comes later, as after a restart.
    world.apply(&ingress("a", "shop", 1, host, &["Prefix / web:80"], ""));
    world.check(&[("GET http://shop.example/steal", "a/web:80"), ("GET http://shop.example/", "a/web:80")]);
    assert_eq!(world.index.lost_hosts(Kind::Ingress, &Id::new("b", "thief")), [host]);
    assert!(world.index.lost_hosts(Kind::Ingress, &Id::new("a", "shop")).is_empty());
    // Another object of the same workspace shares it.
    world.apply(&ingress("a", "more", 9, host, &["Prefix /more other:80"], ""));
    world.check(&[("GET http://shop.example/more", "a/other:80")]);
    world.index.delete(Kind::Ingress, &Id::new("a", "shop"));
    world.check(&[
        ("GET http://shop.example/steal", "b/web:80"),
        ("GET http://shop.example/more", "no route"),
    ]);
    assert_eq!(world.index.lost_hosts(Kind::Ingress, &Id::new("a", "more")), [host]);
}

#[test]
fn a_namespace_that_is_not_known_shares_with_nobody_and_the_operators_share() {
    let two = ingress("a", "one", 1, "x.example", &["Prefix /a web:80"], "")
        + &ingress("b", "two", 2, "x.example", &["Prefix /b web:80"], "");
    let mut world = World::new(&two);
    let split = [("GET http://x.example/a", "a/web:80"), ("GET http://x.example/b", "no route")];
    world.check(&split);
    world.apply(&namespace("a", ""));
    world.check(&split);
    world.apply(&namespace("b", ""));
    world.check(&[("GET http://x.example/a", "a/web:80"), ("GET http://x.example/b", "b/web:80")]);
    world.apply(&workspace("b"));
    world.check(&split);
}

#[test]
fn a_route_that_lost_its_host_is_told_so_and_not_to_whom() {
    let open =
        GATEWAY.replace("protocol: HTTP}", "protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}");
    let spec = |path: &str| {
        format!(
            "{{parentRefs: [{{name: gw, namespace: a}}], hostnames: [x.example], rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}"
        )
    };
    let later = route("c", "r", &spec("/c")).replace("00:00:00Z", "00:00:09Z");
    let mut world = World::new(&(workspace("a") + &workspace("b") + &workspace("c") + "---" + &open));
    world.apply(&(service("b", "web") + &service("c", "web") + &route("b", "r", &spec("/b")) + &later));
    world.check(&[("GET http://x.example/b", "b/web:80"), ("GET http://x.example/c", "no route")]);
    assert_eq!(world.route_conditions(Kind::HttpRoute, "b", "r"), FINE);
    let status = world.status(Kind::HttpRoute, "c", "r");
    assert_eq!(status["parents"][0]["conditions"][0]["reason"], "HostnameConflict");
    let message = status["parents"][0]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "x.example: claimed by another workspace");
}

#[test]
fn what_is_in_another_namespace_takes_a_grant_there() {
    let spec = "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [{backendRefs: [{name: web, namespace: b, port: 80}]}]}";
    let mut world = world(&(service("b", "web") + &route("a", "r", spec)));
    let refused = [("GET http://x.example/", "refused: backend web: no ReferenceGrant of b permits it")];
    world.check(&refused);
    assert_eq!(
        world.route_conditions(Kind::HttpRoute, "a", "r"),
        ["Accepted=True Accepted", "ResolvedRefs=False RefNotPermitted"]
    );
    let grant = |from: &str, to: &str| {
        format!(
            "---\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: b}}\nspec: {{from: [{{group: gateway.networking.k8s.io, {from}}}], to: [{{group: '', {to}}}]}}\n"
        )
    };
    for wrong in [
        grant("kind: HTTPRoute, namespace: c", "kind: Service"),
        grant("kind: GRPCRoute, namespace: a", "kind: Service"),
        grant("kind: HTTPRoute, namespace: a", "kind: Secret"),
        grant("kind: HTTPRoute, namespace: a", "kind: Service, name: other"),
    ] {
        world.apply(&wrong);
        world.check(&refused);
    }
    world.apply(&grant("kind: HTTPRoute, namespace: a", "kind: Service, name: web"));
    world.check(&[("GET http://x.example/", "b/web:80")]);
    assert_eq!(world.route_conditions(Kind::HttpRoute, "a", "r"), FINE);
    world.index.delete(Kind::ReferenceGrant, &Id::new("b", "g"));
    world.check(&refused);
}

#[test]
fn a_missing_service_is_told_and_found_again() {
    let spec =
        "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [{backendRefs: [{name: web, port: 80}]}]}";
    let mut world = world(&route("a", "r", spec));
    let missing = ["Accepted=True Accepted", "ResolvedRefs=False BackendNotFound"];
    assert_eq!(world.route_conditions(Kind::HttpRoute, "a", "r"), missing);
    world.apply(&service("a", "web"));
    assert_eq!(world.route_conditions(Kind::HttpRoute, "a", "r"), FINE);
}

#[test]
fn a_listener_sees_only_what_is_attached_to_it() {
    let more = GATEWAY.replace(
        "- {name: http, port: 80, protocol: HTTP}",
        "- {name: http, port: 80, protocol: HTTP}\n  - {name: wild, port: 80, protocol: HTTP, hostname: '*.example'}",
    );
    let exact = "{parentRefs: [{name: gw, sectionName: http}], hostnames: [x.example], rules: [{matches: [{path: {value: /exact}}], backendRefs: [{name: web, port: 80}]}]}";
    let spec = |section: &str, path: &str| {
        format!(
            "{{parentRefs: [{{name: gw, sectionName: {section}}}], rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}"
        )
    };
    let world = world(
        &(more
            + &route("a", "exact", exact)
            + &route("a", "any", &spec("http", "/any"))
            + &route("a", "wild", &spec("wild", "/wild"))),
    );
    world.check(&[
        ("GET http://other.test/any", "a/web:80"),
        ("GET http://x.example/any", "no route"),
        ("GET http://x.example/wild", "a/web:80"),
        ("GET http://other.test/wild", "no route"),
        // The host is the other listener's, whatever the route's own host name.
        ("GET http://x.example/exact", "no route"),
    ]);
}

#[test]
fn a_listener_lets_in_the_namespaces_it_chooses() {
    let chosen = "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: one}, matchExpressions: [{key: closed, operator: DoesNotExist}]}}}}";
    let spec = "{parentRefs: [{name: gw, namespace: a, sectionName: http}], hostnames: [x.example], rules: [{backendRefs: [{name: web, port: 80}]}]}";
    let mut world =
        world(&("---".to_owned() + &GATEWAY.replace("protocol: HTTP}", chosen) + &route("b", "r", spec)));
    let out = [("GET http://x.example/", "no host")];
    world.check(&out);
    for (labels, wanted) in [
        ("team: one", "b/web:80"),
        ("team: two", "no host"),
        ("team: one, closed: '1'", "no host"),
        ("", "no host"),
        ("team: one", "b/web:80"),
    ] {
        world.apply(&namespace("b", labels));
        world.check(&[("GET http://x.example/", wanted)]);
    }
    world.index.delete(Kind::Namespace, &Id::new("", "b"));
    world.check(&out);
}

#[test]
fn calls_are_routed_by_service_and_method() {
    let spec = "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [
        {matches: [{method: {service: a.Shop, method: Buy}}], backendRefs: [{name: buy, port: 80}]},
        {matches: [{method: {service: a.Shop}}], backendRefs: [{name: shop, port: 80}]},
        {matches: [{method: {method: Ping}}], backendRefs: [{name: ping, port: 80}]},
        {matches: [{method: {type: RegularExpression, service: 'b\\..*', method: 'Get.*'}}], backendRefs: [{name: get, port: 80}]},
    ]}";
    let route = route("a", "r", spec).replace("HTTPRoute", "GRPCRoute");
    let world = world(&route);
    world.check(&[
        ("POST http://x.example/a.Shop/Buy", "a/buy:80"),
        ("POST http://x.example/a.Shop/Sell", "a/shop:80"),
        ("POST http://x.example/z.Any/Ping", "a/ping:80"),
        ("POST http://x.example/b.Any/GetAll", "a/get:80"),
        ("POST http://x.example/a.Shopping/Buy", "no route"),
        ("POST http://x.example/b.Any/SetAll", "no route"),
    ]);
}

#[test]
fn a_gateway_is_told_what_its_listeners_lack() {
    let gateway = "---\nkind: Gateway\nmetadata: {name: gw, namespace: a, generation: 7}\nspec:\n  gatewayClassName: atoll\n  listeners:\n  - {name: ok, port: 80, protocol: HTTP}\n  - {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}\n  - {name: odd, port: 81, protocol: SMTP}\n  - {name: one, port: 82, protocol: HTTP}\n  - {name: two, port: 82, protocol: HTTP}\n  - {name: kinds, port: 83, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: HTTPRoute}]}}\n";
    let mut world = World::new(GATEWAY);
    world.apply(gateway);
    let at = |place: usize| world.conditions(Kind::Gateway, "a", "gw", &format!("/listeners/{place}"));
    let check = |place: usize, wanted: [&str; 3]| {
        let all = at(place);
        for one in wanted {
            assert!(all.iter().any(|other| other == one), "listener {place}: {one} in {all:?}");
        }
    };
    check(0, ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs", "Programmed=False Pending"]);
    check(
        1,
        ["Accepted=True Accepted", "ResolvedRefs=False InvalidCertificateRef", "Programmed=False Invalid"],
    );
    check(
        2,
        ["Accepted=False UnsupportedProtocol", "Programmed=False Invalid", "Conflicted=False NoConflicts"],
    );
    for place in [3, 4] {
        check(
            place,
            [
                "Accepted=False HostnameConflict",
                "Conflicted=True HostnameConflict",
                "Programmed=False Invalid",
            ],
        );
    }
    check(
        5,
        ["Accepted=True Accepted", "ResolvedRefs=False InvalidRouteKinds", "Conflicted=False NoConflicts"],
    );
    let status = world.status(Kind::Gateway, "a", "gw");
    assert_eq!(status["listeners"][5]["supportedKinds"].as_array().unwrap().len(), 1);
    assert_eq!(status["conditions"][0]["reason"], "ListenersNotValid");
    assert_eq!(status["conditions"][0]["status"], "True");
    assert_eq!(status["conditions"][1]["reason"], "AddressNotAssigned");
    assert_eq!(status["conditions"][1]["observedGeneration"], 7);
}

#[test]
fn a_status_that_is_right_is_not_written_again_and_others_parts_stay() {
    let spec =
        "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [{backendRefs: [{name: web, port: 80}]}]}";
    let world = world(&(service("a", "web") + &route("a", "r", spec)));
    let id = Id::new("a", "r");
    let foreign = json!({ "controllerName": "other.dev/x", "parentRef": { "name": "z" }, "conditions": [] });
    let first = world.index.status(Kind::HttpRoute, &id, &json!({ "parents": [foreign] }), NOW).unwrap();
    assert_eq!(first["parents"][0], foreign);
    assert_eq!(first["parents"].as_array().unwrap().len(), 2);
    // Later nothing has changed, and no time either.
    assert_eq!(world.index.status(Kind::HttpRoute, &id, &first, "2027-01-01T00:00:00Z"), None);
    let mut gone = world;
    gone.index.delete(Kind::Gateway, &Id::new("a", "gw"));
    let last = gone.index.status(Kind::HttpRoute, &id, &first, NOW).unwrap();
    assert_eq!(last["parents"], json!([foreign]));
}

#[test]
fn routes_are_counted_by_listener() {
    let spec =
        "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [{backendRefs: [{name: web, port: 80}]}]}";
    let mut world = world(&(route("a", "one", spec) + &route("a", "two", spec)));
    let counts = |world: &World| {
        let status = world.status(Kind::Gateway, "a", "gw");
        [0, 1].map(|place| status["listeners"][place]["attachedRoutes"].as_u64().unwrap())
    };
    assert_eq!(counts(&world), [2, 2]);
    world.apply(&route("a", "two", &spec.replace("{name: gw}", "{name: gw, sectionName: http}")));
    assert_eq!(counts(&world), [2, 1]);
    world.index.delete(Kind::HttpRoute, &Id::new("a", "one"));
    assert_eq!(counts(&world), [1, 0]);
}

#[test]
fn a_tenants_service_leads_to_no_gateway() {
    // Whatever it says of itself.
    let mut world = World::new(&GATEWAY.replace("namespace: atoll-system", "namespace: a"));
    world.secret("a", "gw-tls", &["*.example"]);
    assert!(world.table.entries.is_empty());
    assert!(matches!(world.index.entrance(&Id::new("a", "gw")), Desired::Made(_)));
}

#[test]
fn a_policy_holds_for_its_service_and_the_older_of_two_wins() {
    let (certificate, _) = pair(&["backend.example"]);
    let certificate = String::from_utf8(certificate).unwrap().replace('\n', "\\n");
    let policy = |name: &str, created: u32, map: &str| {
        format!(
            "---\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: a, creationTimestamp: 2026-01-01T00:00:{created:02}Z}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: web}}], validation: {{hostname: backend.example, caCertificateRefs: [{{group: '', kind: ConfigMap, name: {map}}}]}}}}\n"
        )
    };
    let spec =
        "{parentRefs: [{name: gw}], hostnames: [x.example], rules: [{backendRefs: [{name: web, port: 80}]}]}";
    let mut world = world(&(service("a", "web") + &route("a", "r", spec) + &policy("late", 9, "ca")));
    let facts = |world: &World| {
        let mut found = Vec::new();
        let view = world.table.entries.get(&20000).unwrap().view("x.example", false).unwrap();
        let host = world.table.host(view.zone, "x.example").unwrap();
        host.each(|route| found.extend(route.action.targets.backends().map(|backend| backend.facts())));
        found.remove(0)
    };
    let conditions =
        |world: &World, name: &str| world.conditions(Kind::BackendTlsPolicy, "a", name, "/ancestors/0");
    // Until its authority is there nothing goes to the backend in clear text.
    assert!(facts(&world).refused.is_some() && facts(&world).tls.is_none());
    assert_eq!(
        conditions(&world, "late"),
        ["Accepted=False NoValidCACertificate", "ResolvedRefs=False InvalidCACertificateRef"]
    );
    world.apply(&format!(
        "---\nkind: ConfigMap\nmetadata: {{name: ca, namespace: a}}\ndata: {{ca.crt: \"{certificate}\"}}\n"
    ));
    assert!(facts(&world).refused.is_none() && facts(&world).tls.is_some());
    assert_eq!(conditions(&world, "late"), FINE);
    world.apply(&policy("early", 1, "none"));
    assert!(facts(&world).refused.is_some());
    assert_eq!(conditions(&world, "late")[0], "Accepted=False Conflicted");
    world.index.delete(Kind::BackendTlsPolicy, &Id::new("a", "early"));
    world.index.delete(Kind::BackendTlsPolicy, &Id::new("a", "late"));
    assert!(facts(&world).refused.is_none() && facts(&world).tls.is_none());
}

/// What the conformance suite's Gateways with client certificates are told.
#[test]
fn a_gateway_is_told_which_authority_it_can_t_believe() {
    let refer = |kind: &str, name: &str| {
        format!("validation: {{caCertificateRefs: [{{group: '', kind: {kind}, name: {name}}}]}}")
    };
    let listener = |name: &str, port: u16| {
        format!("{{name: {name}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}")
    };
    let gateway = |mode: &str| {
        format!(
            "---\nkind: GatewayClass\nmetadata: {{name: atoll}}\nspec: {{controllerName: atoll.dev/gateway}}\n---\nkind: Gateway\nmetadata: {{name: gw, namespace: a}}\nspec:\n  gatewayClassName: atoll\n  tls:\n    backend: {{clientCertificateRef: {{name: identity}}}}\n    frontend:\n      default: {{validation: {{mode: {mode}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: good}}]}}}}\n      perPort:\n      - {{port: 7443, tls: {{{}}}}}\n      - {{port: 8443, tls: {{{}}}}}\n      - {{port: 6443, tls: {{validation: {{caCertificateRefs: [{{group: '', kind: ConfigMap, name: good, namespace: b}}]}}}}}}\n  listeners: [{}, {}, {}, {}]\n",
            refer("ConfigMap", "missing"),
            refer("Service", "web"),
            listener("https", 443),
            listener("unresolved", 7443),
            listener("kind", 8443),
            listener("grant", 6443),
        )
    };
    let mut world = World::new(&gateway("AllowValidOnly"));
    world.secret("a", "cert", &["own.example"]);
    let (authority, _) = pair(&["authority"]);
    let authority = String::from_utf8(authority).unwrap();
    for namespace in ["a", "b"] {
        let id = Id::new(namespace, "good");
        world.index.apply(Object::ConfigMap(object::ConfigMap { id, authority: Some(authority.clone()) }));
    }
    let conditions = |of: &Value, kind: &str| {
        let all = of["conditions"].as_array().unwrap().iter().find(|other| other["type"] == kind);
        all.map_or("none".to_owned(), |found| {
            format!("{} {}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
        })
    };
    let status = world.status(Kind::Gateway, "a", "gw");
    let told: Vec<String> = status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            format!("{}, {}", conditions(listener, "ResolvedRefs"), conditions(listener, "Accepted"))
        })
        .collect();
    let wanted = [
        "True ResolvedRefs, True Accepted",
        "False InvalidCACertificateRef, False NoValidCACertificate",
        "False InvalidCACertificateKind, False NoValidCACertificate",
        "False RefNotPermitted, False NoValidCACertificate",
    ];
    assert_eq!(told, wanted);
    assert_eq!(conditions(&status, "ResolvedRefs"), "False InvalidClientCertificateRef");
    assert_eq!(conditions(&status, "InsecureFrontendValidationMode"), "none");
    world.secret("a", "identity", &["gateway.example"]);
    world.apply("kind: ReferenceGrant\nmetadata: {name: g, namespace: b}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: a}], to: [{group: '', kind: ConfigMap}]}\n");
    world.apply(&gateway("AllowInsecureFallback"));
    let status = world.status(Kind::Gateway, "a", "gw");
    assert_eq!(conditions(&status, "ResolvedRefs"), "True ResolvedRefs");
    assert_eq!(conditions(&status, "InsecureFrontendValidationMode"), "True ConfigurationChanged");
    assert_eq!(conditions(&status["listeners"][3], "ResolvedRefs"), "True ResolvedRefs");
}
