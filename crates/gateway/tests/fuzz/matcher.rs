//! The route matcher against a plain reading of the rules: no index, no sharing,
//! every rule looked at for every request.

use gateway::index::{Index, Scope};
use gateway::object::{
    Id, Ingress, IngressPath, IngressRule, Object, PathType, PortRef, Service, ServiceRef,
};
use gateway::route::{Request, Target, View};
use gateway::table::{Found, Table};
use http::{HeaderMap, Method};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::sync::Arc;

const HOSTS: [&str; 8] =
    ["a.test", "b.test", "x.a.test", "*.a.test", "*.test", "", "y.x.a.test", "*.x.a.test"];
const ASKED: [&str; 9] =
    ["a.test", "b.test", "x.a.test", "y.x.a.test", "z.y.x.a.test", "c.test", "test", "c.a.test", "other"];
const PIECES: [&str; 7] = ["a", "b", "ab", "", "a%2fb", "A", "."];

fn path(rng: &mut StdRng) -> String {
    let mut path = String::new();
    for _ in 0..rng.random_range(0..4) {
        path += "/";
        path += PIECES.choose(rng).unwrap();
    }
    if path.is_empty() || rng.random_bool(0.2) { path + "/" } else { path }
}

/// Ingresses with some rules each, in the order in which they came to be.
fn ingresses(rng: &mut StdRng) -> Vec<Ingress> {
    (0..rng.random_range(1..12))
        .map(|number| {
            let rules = (0..rng.random_range(1..3)).map(|rule| {
                let paths = (0..rng.random_range(1..4)).map(|place| {
                    let name = format!("s-{number}-{rule}-{place}");
                    IngressPath {
                        path: path(rng),
                        path_type: if rng.random_bool(0.3) { PathType::Exact } else { PathType::Prefix },
                        backend: Some(ServiceRef { name, port: PortRef::Number(80) }),
                    }
                });
                let paths = paths.collect();
                IngressRule { host: (*HOSTS.choose(rng).unwrap()).to_owned(), paths }
            });
            let rules = rules.collect();
            Ingress {
                id: Id::new("a", format!("i-{number:02}")),
                // Several of one age: then the name decides.
                created: rng.random_range(0..4),
                class: None,
                annotations: Default::default(),
                default_backend: None,
                rules,
                tls: Vec::new(),
            }
        })
        .collect()
}

/// The service that a request goes to by the rules.
fn plain<'a>(ingresses: &'a [Ingress], host: &str, path: &str) -> Option<&'a str> {
    let mut rules = Vec::new();
    let mut ordered: Vec<_> = ingresses.iter().collect();
    ordered.sort_by_key(|ingress| (ingress.created, ingress.id.clone()));
    for ingress in ordered {
        for rule in &ingress.rules {
            rules.extend(rule.paths.iter().map(|path| (rule.host.as_str(), path)));
        }
    }
    // The host itself, its wildcard of one label, or all hosts.
    let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}")).unwrap_or_default();
    let chosen =
        [host, &wildcard, ""].into_iter().find(|host| rules.iter().any(|(other, _)| other == host))?;
    let of_host = || rules.iter().filter(|(other, _)| *other == chosen).map(|(_, path)| *path);
    let name = |rule: &'a IngressPath| rule.backend.as_ref().map(|backend| backend.name.as_str());
    let exact = of_host().find(|rule| rule.path_type == PathType::Exact && rule.path == path);
    if let Some(exact) = exact {
        return name(exact);
    }
    let mut best: Option<(&str, &IngressPath)> = None;
    for rule in of_host().filter(|rule| rule.path_type == PathType::Prefix) {
        let prefix = rule.path.trim_end_matches('/');
        let within = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if within && best.is_none_or(|(longest, _)| prefix.len() > longest.len()) {
            best = Some((prefix, rule));
        }
    }
    name(best?.1)
}

fn found(table: &Table, host: &str, path: &str) -> Option<String> {
    let request = Request {
        host,
        path,
        query: None,
        method: &Method::GET,
        headers: &HeaderMap::new(),
        secure: false,
        view: View::shared(false),
    };
    let Found::Route(route) = table.find(&request) else { return None };
    match route.action.targets.pick() {
        Some(Target::Service(backend, _)) => Some(backend.service.name.clone()),
        _ => None,
    }
}

#[test]
fn the_matcher_agrees_with_a_plain_reading_of_the_rules() {
    let requests = crate::asked("ATOLL_FUZZ_REQUESTS", 20_000);
    let mut rng = StdRng::seed_from_u64(crate::seed());
    let rng = &mut rng;
    let (mut asked, mut served) = (0, 0);
    while asked < requests {
        let all = ingresses(rng);
        let table = Arc::new(Table::default());
        let mut index = Index::new(Scope::default(), table.clone());
        // The order in which they are heard of is not to matter, nor what was before.
        let mut order = all.clone();
        order.shuffle(rng);
        for ingress in &order {
            if rng.random_bool(0.2) {
                let mut other = ingresses(rng).swap_remove(0);
                other.id = ingress.id.clone();
                index.apply(Object::Ingress(other));
            }
            index.apply(Object::Ingress(ingress.clone()));
        }
        for _ in 0..200 {
            let (host, path) = (*ASKED.choose(rng).unwrap(), path(rng));
            let (found, wanted) = (found(&table, host, &path), plain(&all, host, &path));
            assert_eq!(found.as_deref(), wanted, "{host}{path} with {all:#?}");
            served += u64::from(found.is_some());
            asked += 1;
        }
        for ingress in &order {
            index.delete(gateway::object::Kind::Ingress, &ingress.id);
        }
        assert!(table.hosts.is_empty() && table.owners.is_empty());
    }
    println!("{served} of {asked} look-ups found a route");
    assert!(served > asked / 10 && served < asked, "{served} of {asked}");
}

/// Applying a Service changes no route.
#[test]
fn a_rule_is_found_before_its_service_is() {
    let table = Arc::new(Table::default());
    let mut index = Index::new(Scope::default(), table.clone());
    let rng = &mut StdRng::seed_from_u64(1);
    let mut one = ingresses(rng).swap_remove(0);
    one.rules[0].host = "a.test".to_owned();
    one.rules[0].paths[0].path = "/q".to_owned();
    let name = one.rules[0].paths[0].backend.as_ref().unwrap().name.clone();
    index.apply(Object::Ingress(one));
    assert_eq!(found(&table, "a.test", "/q"), Some(name.clone()));
    index.apply(Object::Service(Service { id: Id::new("a", &name), ports: Vec::new(), entrance: None }));
    assert_eq!(found(&table, "a.test", "/q"), Some(name));
}
