//! An ACME server and the name server that it asks, as processes of their own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use acme::account::Directory;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{Authority, World};

/// The programs' folder, as `cargo xtask acme` builds it.
const PROGRAMS: &str = "ATOLL_PEBBLE";

/// Ends with whoever holds it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Pebble {
    pub directory: Directory,
    management: SocketAddr,
    authority: Authority,
    _processes: [Process; 2],
    _folder: tempfile::TempDir,
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Pebble {
    /// Asks the gateway of this world, whatever the host. One of ten nonces is refused.
    pub async fn start(world: &World) -> Self {
        let programs = std::env::var_os(PROGRAMS);
        let programs = PathBuf::from(programs.expect("run `cargo xtask acme`: it builds the ACME server"));
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (chain, key) = authority.issue(&["localhost"], rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let (certificate, private) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, crate::world::pem("CERTIFICATE", &chain[0])).unwrap();
        std::fs::write(&private, crate::world::pem("PRIVATE KEY", key.secret_der())).unwrap();
        let (listen, management, dns) = (free(), free(), free());
        let config = folder.path().join("pebble.json");
        let settings = json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate,
            "privateKey": private,
            "httpPort": world.http().port(),
            "tlsPort": world.https().port(),
            "domainBlocklist": ["blocked.example.com"],
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": { "default": { "description": "an hour", "validityPeriod": 3600 } },
        }});
        std::fs::write(&config, settings.to_string()).unwrap();
        let names = Command::new(programs.join("pebble-challtestsrv"))
            .args(["-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-dnsserver", &dns.to_string(), "-management", &free().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Command::new(programs.join("pebble"))
            .args(["-strict", "-dnsserver", &dns.to_string(), "-config"])
            .arg(&config)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "10")
            // What an account has proven is held for proven, as public authorities do.
            .env("PEBBLE_AUTHZREUSE", "100")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let processes = [Process(names), Process(server)];
        for address in [listen, management, dns] {
            let up = async {
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), up).await.expect("a server didn't start");
        }
        let url = format!("https://localhost:{}/dir", listen.port());
        let directory = Directory { url, roots: authority.pem() };
        Self { directory, management, authority, _processes: processes, _folder: folder }
    }

    /// Whom clients have to believe to believe its certificates.
    pub async fn roots(&self) -> RootCertStore {
        let connector = TlsConnector::from(Arc::new(self.authority.client("http/1.1")));
        let stream = TcpStream::connect(self.management).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let request = "GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&answer).unwrap()).unwrap();
        roots
    }
}
