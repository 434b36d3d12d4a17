//! What the index and the table weigh with many routes, each with a certificate
//! of its own: `cargo run --release -p gateway --example memory -- 20000`

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use gateway::index::{Index, Scope};
use gateway::object::{
    EndpointSlice, Id, Ingress, IngressPath, IngressRule, IngressTls, Object, PathType, PortRef, Protocol,
    Secret, Service, ServicePort, ServiceRef,
};
use gateway::table::Table;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).ok_or("how many routes?")?.parse()?;
    let before = resident()?;
    let table = Arc::new(Table::default());
    let mut index = Index::new(Scope::default(), table.clone());
    let mut applying = std::time::Duration::ZERO;
    for number in 0..count {
        let all = app(number)?;
        let started = Instant::now();
        all.into_iter().for_each(|object| index.apply(object));
        applying += started.elapsed();
    }
    let after = resident()?;
    let (hosts, certificates) = (table.hosts.len(), table.certificates.len());
    println!(
        "{hosts} hosts, {certificates} certificates: {} MiB more, applied in {applying:.1?}",
        (after - before) >> 10
    );
    Ok(())
}

fn app(number: usize) -> Result<[Object; 4], Box<dyn Error>> {
    let name = format!("app-{number}");
    let host = format!("{name}.atollapps.localhost");
    let id = Id::new(format!("ns-{}", number / 10), &name);
    let made = rcgen::generate_simple_self_signed([host.clone()])?;
    Ok([
        Object::Ingress(Ingress {
            id: id.clone(),
            created: 0,
            class: None,
            annotations: [("proxy-body-size".to_owned(), "32m".to_owned())].into(),
            default_backend: None,
            rules: vec![IngressRule {
                host: host.clone(),
                paths: vec![IngressPath {
                    path: "/".to_owned(),
                    path_type: PathType::Prefix,
                    backend: Some(ServiceRef { name: name.clone(), port: PortRef::Number(80) }),
                }],
            }],
            tls: vec![IngressTls { hosts: vec![host], secret: Some(name.clone()) }],
        }),
        Object::Service(Service {
            id: id.clone(),
            ports: vec![ServicePort { name: "http".to_owned(), number: 80, protocol: Protocol::Http1 }],
            entrance: None,
        }),
        Object::EndpointSlice(EndpointSlice {
            id: id.clone(),
            service: name,
            ports: vec![("http".to_owned(), 8080)],
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
            zones: Vec::new(),
            leaving: Vec::new(),
        }),
        Object::Secret(Secret {
            id,
            certificate: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
        }),
    ])
}

/// In KiB.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
