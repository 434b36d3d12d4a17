//! Ingresses and their annotations as nobody should write them: nothing panics,
//! nothing of one is left when it is gone, and the neighbour is served throughout.

use std::sync::Arc;

use gateway::index::{Index, Scope};
use gateway::object::{
    EndpointSlice, Id, Ingress, IngressPath, IngressRule, IngressTls, Kind, Object, PathType, PortRef,
    Protocol, Secret, Service, ServicePort, ServiceRef,
};
use gateway::route::{Request, View};
use gateway::table::{Found, Table};
use http::{HeaderMap, Method};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const ANNOTATIONS: &[&str] = &[
    "proxy-body-size",
    "proxy-connect-timeout",
    "proxy-read-timeout",
    "proxy-send-timeout",
    "rewrite-target",
    "use-regex",
    "ssl-redirect",
    "force-ssl-redirect",
    "backend-protocol",
    "affinity",
    "affinity-mode",
    "session-cookie-name",
    "session-cookie-max-age",
    "enable-cors",
    "cors-allow-origin",
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-max-age",
    "whitelist-source-range",
    "denylist-source-range",
    "auth-type",
    "auth-secret",
    "auth-realm",
    "auth-url",
    "permanent-redirect",
    "permanent-redirect-code",
    "temporal-redirect",
    "app-root",
    "upstream-vhost",
    "proxy-buffering",
    "proxy-buffer-size",
    "proxy-body-size ",
    "limit-rps",
    "limit-connections",
    "canary",
    "canary-weight",
    "configuration-snippet",
    "server-snippet",
    "x-forwarded-prefix",
    "proxy-next-upstream",
    "proxy-next-upstream-tries",
    "from-to-www-redirect",
    "server-alias",
    "mirror-target",
    "",
];
const VALUES: &[&str] = &[
    "",
    " ",
    "true",
    "TRUE",
    "false",
    "0",
    "-1",
    "1",
    "60",
    "60s",
    "8m",
    "99999999999999999999g",
    "1e9",
    "/$2",
    "/$9/$$",
    "$",
    "/\u{0}",
    "/\r\nX-Evil: 1",
    "https://evil.test/\r\nSet-Cookie: a=b",
    "http://[::1",
    "HTTPS",
    "GRPC",
    "AUTO_HTTP",
    "*",
    "https://*.a.test, null, *",
    "10.0.0.0/8,::/0,10.0.0.0/33",
    "999.1.1.1",
    "cookie",
    "a b",
    "a;b=c",
    "\u{202e}ä\u{1f600}",
    "proxy_set_header X-A \"b\"; more_clear_headers \"Server\";",
    "}} location / { return 200; }",
    "( ( ( ( (",
    "(a{1000}){1000}",
    "x-secret/y",
    "other/secret",
    "GET, POST, BAD METHOD",
    "X-A,\r\nX-B",
    "302",
    "999",
];
const PATHS: &[&str] = &[
    "",
    "/",
    "/a",
    "a",
    "/a(/|$)(.*)",
    "/(",
    "/(a{1000}){1000}",
    "/a/../b",
    "/%zz",
    "/\u{0}",
    "/ä",
    "//",
    "/^a$",
    "/(?i)x",
    "/(?P<n>a)*",
    "/a\r\nb",
    "/[[:alpha:]]+",
    "/.*.*.*.*.*x",
];
const NAMES: &[&str] = &[
    "",
    "a.test",
    "A.TEST",
    "*.a.test",
    "*",
    "*.*.test",
    "a..test",
    ".test",
    "a.test.",
    "a.test:80",
    "ä.test",
    "a b",
    "\u{0}",
    "neighbour.test",
    "*.test",
];

fn word(rng: &mut StdRng, all: &[&str]) -> String {
    let mut word = (*all.choose(rng).unwrap()).to_owned();
    if rng.random_bool(0.05) {
        word = word.repeat(rng.random_range(2..40));
    }
    if rng.random_bool(0.05) {
        word.push(rng.random());
    }
    word
}

fn backend(rng: &mut StdRng) -> Option<ServiceRef> {
    let port = if rng.random_bool(0.5) {
        PortRef::Number(*[80, 0, 443, 65535].choose(rng).unwrap())
    } else {
        PortRef::Name(word(rng, &["http", "", "web"]))
    };
    rng.random_bool(0.9).then(|| ServiceRef { name: format!("s{}", rng.random_range(0..4)), port })
}

fn ingress(rng: &mut StdRng) -> Object {
    let mut annotations = Vec::new();
    for _ in 0..rng.random_range(0..6) {
        annotations.push((word(rng, ANNOTATIONS), word(rng, VALUES)));
    }
    let mut rules = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let mut paths = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let kinds = [PathType::Exact, PathType::Prefix, PathType::ImplementationSpecific];
            let path_type = *kinds.choose(rng).unwrap();
            paths.push(IngressPath { path: word(rng, PATHS), path_type, backend: backend(rng) });
        }
        rules.push(IngressRule { host: word(rng, NAMES), paths });
    }
    let mut tls = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        let secret = rng.random_bool(0.8).then(|| format!("t{}", rng.random_range(0..3)));
        tls.push(IngressTls { hosts: vec![word(rng, NAMES)], secret });
    }
    Object::Ingress(Ingress {
        id: Id::new(format!("n{}", rng.random_range(0..3)), format!("i{}", rng.random_range(0..8))),
        created: rng.random_range(-1..4),
        class: rng.random_bool(0.1).then(|| word(rng, &["nginx", "atoll", "", "other"])),
        annotations: annotations.into_iter().collect(),
        default_backend: backend(rng).filter(|_| rng.random_bool(0.2)).map(Box::new),
        rules,
        tls,
    })
}

/// A change of some other kind.
fn other(rng: &mut StdRng, pairs: &[(Vec<u8>, Vec<u8>)]) -> Object {
    let namespace = format!("n{}", rng.random_range(0..3));
    match rng.random_range(0..3) {
        0 => Object::Service(Service {
            id: Id::new(namespace, format!("s{}", rng.random_range(0..4))),
            ports: vec![ServicePort {
                name: word(rng, &["http", "", "web"]),
                number: *[80, 0, 443].choose(rng).unwrap(),
                protocol: if rng.random_bool(0.5) { Protocol::Http1 } else { Protocol::H2c },
            }],
            entrance: None,
        }),
        1 => Object::EndpointSlice(EndpointSlice {
            id: Id::new(namespace, format!("e{}", rng.random_range(0..4))),
            service: format!("s{}", rng.random_range(0..4)),
            ports: vec![(word(rng, &["http", "", "web"]), rng.random())],
            addresses: vec![[10, 0, 0, rng.random()].into()],
            zones: Vec::new(),
            leaving: Vec::new(),
        }),
        _ => {
            let id = Id::new(namespace, format!("t{}", rng.random_range(0..3)));
            let (certificate, key) = pairs.choose(rng).unwrap().clone();
            Object::Secret(Secret { id, certificate: certificate.into(), key: key.into(), acme: false })
        }
    }
}

#[test]
fn no_ingress_breaks_the_index_or_its_neighbour() {
    // One change and some look-ups cost as much as many requests.
    let changes = crate::asked("ATOLL_FUZZ_REQUESTS", 20_000) / 10;
    let mut rng = StdRng::seed_from_u64(crate::seed());
    let rng = &mut rng;
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    };
    let pairs = vec![made("a.test"), made("*.a.test"), (b"nonsense".to_vec(), Vec::new())];
    let table = Arc::new(Table::default());
    let mut index = Index::new(Scope::default(), table.clone());
    let neighbour = Id::new("neighbour", "neighbour");
    index.apply(Object::Ingress(Ingress {
        id: neighbour.clone(),
        created: -2,
        class: None,
        annotations: Default::default(),
        default_backend: None,
        rules: vec![IngressRule {
            host: "neighbour.test".to_owned(),
            paths: vec![IngressPath {
                path: "/".to_owned(),
                path_type: PathType::Prefix,
                backend: Some(ServiceRef { name: "neighbour".to_owned(), port: PortRef::Number(80) }),
            }],
        }],
        tls: Vec::new(),
    }));
    let mut known = Vec::new();
    for _ in 0..changes {
        let object = if rng.random_bool(0.7) { ingress(rng) } else { other(rng, &pairs) };
        let key = (object.kind(), object.id().clone());
        if rng.random_bool(0.3) {
            index.delete(key.0, &key.1);
        } else {
            index.apply(object);
            known.push(key.clone());
        }
        let (headers, path) = (HeaderMap::new(), word(rng, PATHS));
        for host in ["a.test", "x.a.test", "neighbour.test", "", "other"] {
            let request = Request {
                host,
                path: &path,
                query: Some("a=%zz&b"),
                method: &Method::GET,
                headers: &headers,
                secure: false,
                view: View::shared(false),
            };
            let found = table.find(&request);
            if let Found::Route(route) = &found {
                let action = &route.action;
                if let Some(rewrite) = &action.rewrite_path {
                    assert!(rewrite.apply(&route.path, &path).starts_with('/'));
                }
                if let Some(redirect) = &action.redirect {
                    redirect.location(&route.path, &request, Some(8080));
                }
                action.targets.pick();
            }
            table.certificate(Some(host));
            if host == "neighbour.test" && path.starts_with('/') {
                let Found::Route(route) = found else { panic!("the neighbour is gone") };
                assert_eq!(route.owner.id, neighbour, "another's route at the neighbour's host");
            }
        }
        index.problems(key.0, &key.1);
    }
    index.delete(Kind::Ingress, &neighbour);
    for (kind, id) in known {
        index.delete(kind, &id);
    }
    assert!(table.hosts.is_empty() && table.owners.is_empty() && table.certificates.is_empty());
    assert!(index.objects().is_empty());
}
