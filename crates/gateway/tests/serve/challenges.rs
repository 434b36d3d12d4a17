//! Challenges of ACME over real sockets.

use std::sync::Arc;

use gateway::challenge::Challenge;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{Backend, World, header};

const PATH: &str = "/.well-known/acme-challenge/token";
/// id-pe-acmeIdentifier (RFC 8737, section 6.1), and the SHA-256 that follows it.
const IDENTIFIER: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f];

fn challenge(host: &str) -> Option<Challenge> {
    let (host, token) = (host.to_owned(), "token".to_owned());
    Some(Challenge { host, token, key_authorization: "token.thumbprint".to_owned(), gateway: None })
}

fn body(answer: &str) -> &str {
    answer.split("\r\n\r\n").nth(1).unwrap()
}

/// The certificate that an authority is shown.
async fn shown(world: &World, name: &str, alpn: &[&str]) -> std::io::Result<(Option<Vec<u8>>, Vec<u8>)> {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(world.https()).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    Ok((session.alpn_protocol().map(<[u8]>::to_vec), certificate))
}

#[derive(Debug)]
struct Anything;

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_comes_before_everything_that_a_tenant_says() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    let strict =
        [("force-ssl-redirect", "true"), ("allowlist-source-range", "192.0.2.1"), ("app-root", "/app")];
    world.app("web", "web.apps.test", &strict, &[backend.address]);
    assert_eq!(world.get("web.apps.test", PATH).await.0, 308, "as without a challenge");
    world.table.challenges.set("one", challenge("web.apps.test"));
    let (status, answer) = world.get("web.apps.test", PATH).await;
    assert_eq!((status, body(&answer)), (200, "token.thumbprint"));
    assert_eq!(header(&answer, "content-type"), "application/octet-stream");
    assert_eq!(world.get("WEB.apps.test:5002", PATH).await.0, 200, "with a port, and in any case");
    // And also for a host that nothing serves yet.
    world.table.challenges.set("two", challenge("new.example"));
    assert_eq!(world.get("new.example", PATH).await.0, 200);
    assert_eq!(backend.served.load(std::sync::atomic::Ordering::SeqCst), 0);
    world.table.challenges.set("one", None);
    assert_eq!(world.get("web.apps.test", PATH).await.0, 308);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_asked_of_a_host_stays_the_tenants() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    world.table.challenges.set("one", challenge("other.apps.test"));
    for path in [PATH, "/.well-known/acme-challenge/", "/.well-known/acme-challenge/token/x"] {
        let (status, answer) = world.get("web.apps.test", path).await;
        assert!(status == 200 && answer.contains("backend=one"), "{path}: {answer}");
    }
    // Another token of the same host is the tenant's too: it may have its own way to certificates.
    world.table.challenges.set("two", challenge("web.apps.test"));
    let (_, answer) = world.get("web.apps.test", "/.well-known/acme-challenge/its-own").await;
    assert!(answer.contains("backend=one"), "{answer}");
    assert_eq!(world.get("x.web.apps.test", PATH).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_host_is_not_proven_at_the_shared_address() {
    let world = World::start().await;
    // Whoever has it there may be another than who has it here.
    let gateway = Some(gateway::object::Id::new("b", "own"));
    world.table.challenges.set("one", challenge("web.apps.test").map(|one| Challenge { gateway, ..one }));
    assert_eq!(world.get("web.apps.test", PATH).await.0, 404);
    assert!(shown(&world, "web.apps.test", &["acme-tls/1"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_challenges_certificate_is_shown_to_authorities_alone() {
    let world = World::start().await;
    let none = shown(&world, "web.apps.test", &["acme-tls/1"]).await;
    assert!(none.is_err(), "no challenge, no handshake");
    world.table.challenges.set("one", challenge("web.apps.test"));
    let (protocol, certificate) = shown(&world, "web.apps.test", &["acme-tls/1"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"acme-tls/1"[..]));
    let place = certificate.windows(IDENTIFIER.len()).position(|window| window == IDENTIFIER).unwrap();
    // BOOLEAN TRUE: critical; OCTET STRING in OCTET STRING.
    let after = &certificate[place + IDENTIFIER.len()..];
    assert_eq!(after[..7], [0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20]);
    use sha2::Digest as _;
    assert_eq!(after[7..39], sha2::Sha256::digest("token.thumbprint")[..]);
    assert!(shown(&world, "other.apps.test", &["acme-tls/1"]).await.is_err());
    // Whoever wants to be served sees the host's own.
    let (protocol, certificate) = shown(&world, "web.apps.test", &["h2"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"h2"[..]));
    assert!(!certificate.windows(IDENTIFIER.len()).any(|window| window == IDENTIFIER));
    world.table.challenges.set("one", None);
    assert!(shown(&world, "web.apps.test", &["acme-tls/1"]).await.is_err());
}
