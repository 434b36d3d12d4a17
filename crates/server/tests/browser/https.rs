//! The server on a port of this machine, over https, with an authority of its
//! own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use server::{Files, Server, Settings};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::common::Memory;

pub struct Site {
    pub memory: Arc<Memory>,
    pub address: SocketAddr,
    /// The authority's certificate, PEM.
    pub authority: String,
    pub server: Server,
    accepting: JoinHandle<()>,
    tls: TlsAcceptor,
}

impl Site {
    pub async fn start() -> Self {
        let memory = Memory::new();
        let files = Files::load(crate::desktop()).unwrap();
        let heartbeat = std::time::Duration::from_millis(500);
        let settings = Settings { heartbeat, ..Settings::default() };
        let server = Server::new(memory.backends(), settings, files);
        let (authority, tls) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = accept(listener, tls.clone(), &server);
        Self { memory, address, authority, server, accepting, tls }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://atoll.localhost:{}{path}", self.address.port())
    }

    /// As if the server was killed: nothing answers, streams break.
    pub async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.server.close();
    }

    /// And came back, with the same sessions.
    pub async fn start_again(&mut self) {
        let files = Files::load(crate::desktop()).unwrap();
        self.server = Server::new(self.memory.backends(), Settings::default(), files);
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = accept(listener, self.tls.clone(), &self.server);
    }
}

fn accept(listener: TcpListener, tls: TlsAcceptor, server: &Server) -> JoinHandle<()> {
    let router = server.router();
    tokio::spawn(async move {
        // Connections end with this task.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, peer)) = listener.accept().await else { return };
            let (tls, router) = (tls.clone(), router.clone().layer(Extension(ConnectInfo(peer))));
            connections.spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
            });
        }
    })
}

fn certificates() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Atoll desktop test");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["atoll.localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}
