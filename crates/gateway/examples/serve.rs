//! The gateway with one app and no API server, for `cargo xtask bench-gateway`:
//! `serve HTTP HTTPS HOST UPSTREAM CERTIFICATE KEY`, three addresses, a host and two files.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use gateway::index::{Index, Scope};
use gateway::listen::Server;
use gateway::metrics::Metrics;
use gateway::object::{
    EndpointSlice, Id, Ingress, IngressPath, IngressRule, Object, PathType, PortRef, Protocol, Secret,
    Service, ServicePort, ServiceRef,
};
use gateway::table::Table;
use tokio::net::TcpListener;

/// As the shipped program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    nix::sys::prctl::set_thp_disable(true)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [http, https, host, upstream, certificate, key] = words.as_slice() else {
        return Err("serve HTTP HTTPS HOST UPSTREAM CERTIFICATE KEY".into());
    };
    let upstream: SocketAddr = upstream.parse()?;
    let scope = Scope::default();
    let default = scope.default_certificate.clone();
    let table = Arc::new(Table::default());
    let mut index = Index::new(scope, table.clone());
    let id = || Id::new("bench", "app");
    index.apply(Object::Secret(Secret {
        id: default,
        certificate: std::fs::read(certificate)?.into(),
        key: std::fs::read(key)?.into(),
        acme: false,
    }));
    index.apply(Object::Ingress(Ingress {
        id: id(),
        created: 0,
        class: None,
        annotations: Default::default(),
        default_backend: None,
        rules: vec![IngressRule {
            host: host.clone(),
            paths: vec![IngressPath {
                path: "/".to_owned(),
                path_type: PathType::Prefix,
                backend: Some(ServiceRef { name: "app".to_owned(), port: PortRef::Number(80) }),
            }],
        }],
        tls: Vec::new(),
    }));
    index.apply(Object::Service(Service {
        id: id(),
        ports: vec![ServicePort { name: String::new(), number: 80, protocol: Protocol::Http1 }],
        entrance: None,
    }));
    index.apply(Object::EndpointSlice(EndpointSlice {
        id: id(),
        service: "app".to_owned(),
        ports: vec![(String::new(), upstream.port())],
        addresses: vec![upstream.ip()],
        zones: Vec::new(),
        leaving: Vec::new(),
    }));
    let server = Server::new(table, Arc::new(Metrics::default()), 443)?;
    let clear = server.listen(TcpListener::bind(http).await?, Some(false))?;
    let secure = server.listen(TcpListener::bind(https).await?, Some(true))?;
    tokio::signal::ctrl_c().await?;
    drop((clear, secure));
    Ok(())
}
