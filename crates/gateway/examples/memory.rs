//! What the index and the table weigh with many routes, each with a certificate
//! of its own, read as an API server sends them and held by the allocator of the
//! shipped program: `cargo run --release -p gateway --example memory -- 20000`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::index::{Index, Scope};
use gateway::lean::{Lean, Parts};
use gateway::object::Object;
use gateway::table::Table;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Resource;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whose certificate is the second in every chain.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    nix::sys::prctl::set_thp_disable(true)?;
    let count: usize = std::env::args().nth(1).ok_or("how many routes?")?.parse()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    let authority = Authority { issuer: Issuer::new(params, key), pem };

    let before = resident()?;
    let table = Arc::new(Table::default());
    let mut index = Index::new(Scope::default(), table.clone());
    let mut applying = Duration::ZERO;
    for number in 0..count {
        let all = app(number, &authority)?;
        let started = Instant::now();
        all.into_iter().for_each(|object| index.apply(object));
        applying += started.elapsed();
    }
    let more = resident()? - before;
    let (hosts, certificates) = (table.hosts.len(), table.certificates.len());
    println!(
        "{hosts} hosts, {certificates} certificates: {} MiB more, {} bytes each, applied in {applying:.1?}",
        more >> 10,
        (more << 10) / count.max(1),
    );
    Ok(())
}

/// As it is watched.
fn read<K: Parts + Resource + Into<Object>>(object: &Value) -> Result<Object, Box<dyn Error>> {
    Ok(serde_json::from_str::<Lean<K>>(&object.to_string())?.object)
}

fn app(number: usize, authority: &Authority) -> Result<[Object; 4], Box<dyn Error>> {
    let name = format!("app-{number}");
    let host = format!("{name}.atollapps.localhost");
    let meta = |name: &str| {
        json!({
            "name": name,
            "namespace": format!("ns-{}", number / 10),
            "uid": format!("00000000-0000-4000-8000-{number:0>12}"),
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": name, "kubernetes.io/service-name": name},
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "32m"},
        })
    };
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([host.clone()])?.signed_by(&key, &authority.issuer)?;
    let chain = ByteString((leaf.pem() + &authority.pem).into_bytes());
    let backend = json!({"service": {"name": name, "port": {"number": 80}}});
    let secret = format!("{name}-tls");
    Ok([
        read::<Ingress>(&json!({
            "metadata": meta(&name),
            "spec": {
                "ingressClassName": "nginx",
                "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
                "tls": [{"hosts": [host], "secretName": secret}],
            },
        }))?,
        read::<Service>(&json!({
            "metadata": meta(&name),
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
        }))?,
        read::<EndpointSlice>(&json!({
            "metadata": meta(&format!("{name}-x7f2k")),
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
        }))?,
        read::<Secret>(&json!({
            "metadata": meta(&secret),
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": chain, "tls.key": ByteString(key.serialize_pem().into_bytes())},
        }))?,
    ])
}

/// In KiB.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
