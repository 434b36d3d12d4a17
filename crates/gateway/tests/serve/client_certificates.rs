//! Clients that show certificates, and the gateway that shows one.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::gateway_api::{BackendTLSPolicy, Gateway};
use gateway::object::{Id, Object, Users};
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::gateways::{apply, gateway_with, http_route, to};
use super::world::{Authority, Backend, Identity, World, full, header, text};

const SECURE: &str = "secure.apps.test";
const OPEN: &str = "open.apps.test";

/// A Secret `ca` with an authority.
fn believe(world: &mut World, name: &str, authority: &Authority) {
    let data = BTreeMap::from([("ca.crt".to_owned(), authority.pem().into_bytes())]);
    world.index.apply(Object::Users(Users { id: Id::new("a", name), data: Some(data) }));
}

/// An app that asks for certificates, and one that doesn't.
async fn apps(annotations: &[(&str, &str)]) -> (World, Backend, Authority) {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    let clients = Authority::new();
    let mut all = vec![("auth-tls-secret", "a/ca")];
    all.extend_from_slice(annotations);
    world.app("secure", SECURE, &all, &[backend.address]);
    world.app("open", OPEN, &[], &[backend.address]);
    believe(&mut world, "ca", &clients);
    (world, backend, clients)
}

async fn connect(
    address: std::net::SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// One request over HTTP/1.1, on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, headers: &str) -> (u16, String) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return (0, String::new());
    }
    let mut answer = String::new();
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        answer += &String::from_utf8_lossy(&buffer[..read]);
        let length = header(&answer, "content-length").parse::<usize>().ok();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if body.is_some() && (length <= body || length.is_none()) {
            break;
        }
    }
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

async fn get(
    world: &World,
    identity: Option<&Identity>,
    name: &str,
    host: &str,
    headers: &str,
) -> (u16, String) {
    let config = Arc::new(world.authority.client_as("http/1.1", identity));
    let mut stream = connect(world.https(), &config, name).await.unwrap();
    ask(&mut stream, host, headers).await
}

async fn get2(world: &World, identity: Option<&Identity>, name: &str, host: &str) -> (u16, String) {
    let config = Arc::new(world.authority.client_as("h2", identity));
    let io = TokioIo::new(connect(world.https(), &config, name).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let asked = Request::builder().uri(format!("https://{host}/")).header("ssl-client-verify", "SUCCESS");
    let answer = sender.send_request(asked.body(full("")).unwrap()).await.unwrap();
    (answer.status().as_u16(), text(answer).await)
}

const CLAIMS: &str = "ssl-client-verify: SUCCESS\r\nssl_client_verify: SUCCESS\r\nSSL-Client-Subject-DN: CN=admin\r\nssl-client-issuer-dn: CN=us\r\nssl-client-cert: x\r\nX-Forwarded-Client-Cert: x\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_good_certificate_is_let_in_and_told_of() {
    let (world, backend, clients) = apps(&[("auth-tls-pass-certificate-to-upstream", "true")]).await;
    let (good, bad) = (clients.identity("ann"), Authority::new().identity("ann"));
    for (identity, wanted) in [(None, 400), (Some(&bad), 400), (Some(&good), 200)] {
        let before = backend.served.load(std::sync::atomic::Ordering::SeqCst);
        let (status, answer) = get(&world, identity, SECURE, SECURE, CLAIMS).await;
        assert_eq!(status, wanted, "{answer}");
        assert_eq!(get2(&world, identity, SECURE, SECURE).await.0, wanted);
        let served = backend.served.load(std::sync::atomic::Ordering::SeqCst) - before;
        assert_eq!(served, if wanted == 200 { 2 } else { 0 });
    }
    let (_, answer) = get(&world, Some(&good), SECURE, SECURE, CLAIMS).await;
    for line in ["ssl-client-verify=SUCCESS\n", "CN=ann", "ssl-client-cert=%2D%2D%2D%2D%2DBEGIN"] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    assert!(!answer.contains("CN=admin") && !answer.contains("CN=us"), "{answer}");
    assert!(!answer.contains("ssl_client_verify") && !answer.contains("client-cert=x"), "{answer}");
    // Who isn't asked can't say so either.
    let (status, answer) = get(&world, Some(&good), OPEN, OPEN, CLAIMS).await;
    assert_eq!(status, 200);
    assert!(!answer.to_lowercase().contains("ssl-client") && !answer.contains("client-cert"), "{answer}");
    // In clear text nobody shows anything.
    let (status, answer) = world.get(SECURE, "/x").await;
    assert_eq!((status, header(&answer, "location")), (308, "https://secure.apps.test/x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_another_host_brings_nobody_in() {
    let (mut world, backend, clients) = apps(&[]).await;
    let others = Authority::new();
    world.app("other", "other.apps.test", &[("auth-tls-secret", "other")], &[backend.address]);
    believe(&mut world, "other", &others);
    let (good, other) = (clients.identity("ann"), others.identity("ann"));
    for (name, identity) in [
        (OPEN, None),
        (OPEN, Some(&good)),
        ("nobody.apps.test", None),
        ("other.apps.test", Some(&other)),
        // Good here, but it was asked for there.
        ("other.apps.test", Some(&good)),
    ] {
        let before = backend.served.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(get(&world, identity, name, SECURE, "").await.0, 421, "{name}");
        assert_eq!(get2(&world, identity, name, SECURE).await.0, 421, "{name}");
        assert_eq!(backend.served.load(std::sync::atomic::Ordering::SeqCst), before);
    }
    assert_eq!(get(&world, Some(&good), SECURE, SECURE, "").await.0, 200);
    // What isn't guarded may be asked for by either.
    assert_eq!(get(&world, Some(&good), SECURE, OPEN, "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_believed_once_is_not_brought_along() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("secure", SECURE, &[], &[backend.address]);
    let config = Arc::new(world.authority.client("http/1.1"));
    let mut kept = connect(world.https(), &config, SECURE).await.unwrap();
    assert_eq!(ask(&mut kept, SECURE, "").await.0, 200);
    let mut resumed = connect(world.https(), &config, SECURE).await.unwrap();
    assert_eq!(ask(&mut resumed, SECURE, "").await.0, 200);
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "as it should be else");
    // Now it asks for certificates: connections and sessions are of before that.
    let (first, second) = (Authority::new(), Authority::new());
    world.ingress("secure", SECURE, &[("auth-tls-secret", "ca")], false);
    believe(&mut world, "ca", &first);
    assert_eq!(ask(&mut kept, SECURE, "").await.0, 421);
    let mut resumed = connect(world.https(), &config, SECURE).await.unwrap();
    assert_eq!(ask(&mut resumed, SECURE, "").await.0, 400);
    // And when whose are good is changed.
    let ann = first.identity("ann");
    let config = Arc::new(world.authority.client_as("http/1.1", Some(&ann)));
    let mut kept = connect(world.https(), &config, SECURE).await.unwrap();
    assert_eq!(ask(&mut kept, SECURE, "").await.0, 200);
    believe(&mut world, "ca", &second);
    assert_eq!(ask(&mut kept, SECURE, "").await.0, 421);
    let mut again = connect(world.https(), &config, SECURE).await.unwrap();
    assert_eq!(ask(&mut again, SECURE, "").await.0, 400);
    assert_ne!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_followed_keeps_everybody_out_of_all_of_the_host() {
    let (mut world, _backend, clients) = apps(&[]).await;
    let ann = clients.identity("ann");
    // Another Ingress of the host, which asks for nothing itself.
    world.ingress_at("open", SECURE, "/open", &[], false);
    assert_eq!(get(&world, None, SECURE, SECURE, "").await.0, 400);
    assert_eq!(get(&world, Some(&ann), SECURE, SECURE, "").await.0, 200);
    let path = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {SECURE}\r\nConnection: close\r\n\r\n");
    let open = async |world: &World| {
        let config = Arc::new(world.authority.client("http/1.1"));
        let mut stream = connect(world.https(), &config, SECURE).await.unwrap();
        stream.write_all(path("/open").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(open(&world).await, "400");
    world.index.apply(Object::Users(Users { id: Id::new("a", "ca"), data: None }));
    assert_eq!(open(&world).await, "500");
    assert_eq!(get(&world, Some(&ann), SECURE, SECURE, "").await.0, 500);
    world.ingress(
        "secure",
        SECURE,
        &[("auth-tls-secret", "ca"), ("auth-tls-verify-client", "perhaps")],
        false,
    );
    assert_eq!(open(&world).await, "500");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_none_may_be_sent_elsewhere_or_let_in_as_nobody() {
    let (mut world, _backend, clients) = apps(&[("auth-tls-error-page", "/why?$host")]).await;
    let (status, answer) = get(&world, None, SECURE, SECURE, "").await;
    assert_eq!((status, header(&answer, "location")), (302, "/why?secure.apps.test"));
    world.ingress(
        "secure",
        SECURE,
        &[("auth-tls-secret", "ca"), ("auth-tls-verify-client", "optional")],
        false,
    );
    let (status, answer) = get(&world, None, SECURE, SECURE, CLAIMS).await;
    assert_eq!(status, 200);
    assert!(answer.contains("ssl-client-verify=NONE\n"), "{answer}");
    let cn = ("auth-tls-match-cn", "CN=ann");
    world.ingress("secure", SECURE, &[("auth-tls-secret", "ca"), cn], false);
    assert_eq!(get(&world, Some(&clients.identity("bob")), SECURE, SECURE, "").await.0, 403);
    assert_eq!(get(&world, Some(&clients.identity("ann")), SECURE, SECURE, "").await.0, 200);
}

fn authority_map(world: &mut World, name: &str, authority: &Authority) {
    apply::<ConfigMap>(
        world,
        json!({ "metadata": { "name": name, "namespace": "a" }, "data": { "ca.crt": authority.pem() } }),
    );
}

fn validation(map: &str, mode: &str) -> Value {
    let reference = json!({ "group": "", "kind": "ConfigMap", "name": map });
    json!({ "validation": { "caCertificateRefs": [reference], "mode": mode } })
}

/// A Gateway's own status for a request, 0 where there is no connection.
async fn by_gateway(world: &World, listener: &gateway::listen::Listener, identity: Option<&Identity>) -> u16 {
    let config = Arc::new(world.authority.client_as("http/1.1", identity));
    match connect(listener.address, &config, "own.test").await {
        Ok(mut stream) => ask(&mut stream, "own.test", "").await.0,
        Err(_) => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_asks_the_clients_of_its_ports() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let (ours, theirs) = (Authority::new(), Authority::new());
    authority_map(&mut world, "ours", &ours);
    authority_map(&mut world, "theirs", &theirs);
    let secret = world.authority.secret(Id::new("a", "cert"), &["own.test"]);
    world.index.apply(secret);
    let listener = json!({
        "name": "https", "port": 443, "protocol": "HTTPS", "tls": { "certificateRefs": [{ "name": "cert" }] },
    });
    let spec = |tls: Value| {
        json!({
            "metadata": { "name": "gw", "namespace": "a" },
            "spec": { "gatewayClassName": "atoll", "listeners": [listener.clone()], "tls": tls },
        })
    };
    let only = json!({ "frontend": { "default": validation("ours", "AllowValidOnly") } });
    let own = gateway_with(&mut world, listener.clone(), only).await;
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web") }));
    let (ann, eve) = (ours.identity("ann"), theirs.identity("eve"));
    let check = async |world: &World, wanted: [u16; 3]| {
        let mut got = [0; 3];
        for (place, identity) in [None, Some(&ann), Some(&eve)].into_iter().enumerate() {
            got[place] = by_gateway(world, &own, identity).await;
        }
        assert_eq!(got, wanted);
    };
    check(&world, [0, 200, 0]).await;
    let config = Arc::new(world.authority.client_as("http/1.1", Some(&ann)));
    let mut kept = connect(own.address, &config, "own.test").await.unwrap();
    assert_eq!(ask(&mut kept, "own.test", "").await.0, 200);
    // One port's own, which says otherwise: also to who is here already.
    let per_port = json!([{ "port": 443, "tls": validation("theirs", "AllowValidOnly") }]);
    let default = validation("ours", "AllowValidOnly");
    apply::<Gateway>(&mut world, spec(json!({ "frontend": { "default": default, "perPort": per_port } })));
    assert_eq!(ask(&mut kept, "own.test", "").await.0, 421);
    check(&world, [0, 0, 200]).await;
    apply::<Gateway>(
        &mut world,
        spec(json!({ "frontend": { "default": validation("ours", "AllowInsecureFallback") } })),
    );
    check(&world, [200, 200, 200]).await;
    apply::<Gateway>(
        &mut world,
        spec(json!({ "frontend": { "default": validation("none", "AllowValidOnly") } })),
    );
    check(&world, [0, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_shows_backends_who_it_is() {
    let mut world = World::start().await;
    let trusted = Authority::new();
    let backend = Backend::start_asking("backend.test", &trusted).await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    authority_map(&mut world, "trusted", &trusted);
    apply::<BackendTLSPolicy>(
        &mut world,
        json!({
            "metadata": { "name": "p", "namespace": "a" },
            "spec": {
                "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "validation": {
                    "hostname": "backend.test",
                    "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": "trusted" }],
                },
            },
        }),
    );
    let show = |world: &mut World, authority: &Authority| {
        let secret = authority.secret(Id::new("a", "identity"), &["gateway.test"]);
        world.index.apply(secret);
    };
    show(&mut world, &trusted);
    let tls = json!({ "backend": { "clientCertificateRef": { "kind": "Secret", "name": "identity" } } });
    let listener = json!({ "name": "http", "port": 80, "protocol": "HTTP" });
    let own = gateway_with(&mut world, listener, tls).await;
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web") }));
    let get = async || {
        let mut stream = TcpStream::connect(own.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: own.test\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for _ in 0..3 {
        assert_eq!(get().await, "200");
    }
    // An Ingress is not the Gateway, and has nothing to show.
    assert_eq!(world.get("web.apps.test", "/").await.0, 502);
    // Connections that were made by another certificate aren't this one's.
    show(&mut world, &Authority::new());
    assert_eq!(get().await, "502");
    show(&mut world, &trusted);
    assert_eq!(get().await, "200");
}
