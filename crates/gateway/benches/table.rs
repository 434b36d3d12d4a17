//! What one lookup and one change cost beside 100 to 100,000 others: flat.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway::index::{Index, Scope};
use gateway::object::{
    EndpointSlice, Id, Ingress, IngressPath, IngressRule, Object, PathType, PortRef, Protocol, Service,
    ServicePort, ServiceRef,
};
use gateway::route::{Request, View};
use gateway::table::{Found, Table};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

fn name(number: usize) -> String {
    format!("app-{number}")
}

fn ingress(number: usize, path: &str) -> Object {
    let backend = ServiceRef { name: name(number), port: PortRef::Number(80) };
    Object::Ingress(Ingress {
        id: Id::new(format!("ns-{}", number / 10), name(number)),
        created: i64::try_from(number).unwrap_or_default(),
        class: None,
        annotations: [("proxy-body-size".to_owned(), "32m".to_owned())].into(),
        default_backend: None,
        rules: vec![IngressRule {
            host: format!("{}.atollapps.localhost", name(number)),
            paths: vec![IngressPath {
                path: path.to_owned(),
                path_type: PathType::Prefix,
                backend: Some(backend),
            }],
        }],
        tls: Vec::new(),
    })
}

fn slice(number: usize, last: u8) -> Object {
    Object::EndpointSlice(EndpointSlice {
        id: Id::new(format!("ns-{}", number / 10), name(number)),
        service: name(number),
        ports: vec![("http".to_owned(), 8080)],
        addresses: vec![IpAddr::from([10, 0, 0, last])],
        zones: Vec::new(),
        leaving: Vec::new(),
    })
}

fn world(size: usize) -> (Index, Arc<Table>) {
    let table = Arc::new(Table::default());
    let mut index = Index::new(Scope::default(), table.clone());
    for number in 0..size {
        let ports = vec![ServicePort { name: "http".to_owned(), number: 80, protocol: Protocol::Http1 }];
        index.apply(ingress(number, "/"));
        index.apply(Object::Service(Service {
            id: Id::new(format!("ns-{}", number / 10), name(number)),
            ports,
            entrance: None,
        }));
        index.apply(slice(number, 1));
    }
    (index, table)
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    for size in SIZES {
        let (mut index, table) = world(size);
        let method = http::Method::GET;
        let headers = http::HeaderMap::new();
        let mut number = 0;
        let hosts: Vec<String> =
            (0..size).map(|number| format!("{}.atollapps.localhost", name(number))).collect();
        group.bench_function(BenchmarkId::new("look up a route", size), |bench| {
            bench.iter(|| {
                number = (number + 7919) % size;
                let host = hosts.get(number).map_or("", String::as_str);
                let request = Request {
                    host,
                    path: "/a/b/c",
                    query: None,
                    method: &method,
                    headers: &headers,
                    secure: true,
                    view: View::shared(true),
                };
                let found = table.find(&request);
                assert!(matches!(found, Found::Route(_)));
                black_box(found)
            });
        });
        // Each pass over the objects changes every one of them.
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("change an Ingress", size), |bench| {
            bench.iter(|| {
                turn += 1;
                index.apply(ingress(
                    (turn * 7919) % size,
                    if (turn / size) % 2 == 0 { "/other" } else { "/" },
                ));
            });
        });
        group.bench_function(BenchmarkId::new("add and remove an Ingress", size), |bench| {
            bench.iter(|| {
                let object = ingress(size, "/");
                let id = object.id().clone();
                index.apply(object);
                index.delete(gateway::object::Kind::Ingress, &id);
            });
        });
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("change an EndpointSlice", size), |bench| {
            bench.iter(|| {
                turn += 1;
                index.apply(slice((turn * 7919) % size, if (turn / size) % 2 == 0 { 2 } else { 1 }));
            });
        });
    }
    group.finish();
    criterion.bench_function("load 20,000 apps from cold", |bench| {
        bench.iter(|| black_box(world(20_000).1.hosts.len()));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = table
}
criterion_main!(benches);
