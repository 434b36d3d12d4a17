//! Behind a balancer that says whose connections it hands on.

use gateway::index::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{Backend, World};

const FIRST: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n";
const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\n\r\n";

async fn world(balancers: &[&str], annotations: &[(&str, &str)]) -> (World, Backend) {
    let backend = Backend::start("one").await;
    let mut world = World::with(Scope::default(), balancers).await;
    world.app("web", "web.apps.test", annotations, &[backend.address]);
    (world, backend)
}

async fn send(world: &World, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    stream.write_all(&parts.concat()).await.unwrap();
    let mut answer = Vec::new();
    // What is refused may be cut off.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_who_a_trusted_balancer_says() {
    let (world, _backend) = world(&["127.0.0.0/8"], &[("whitelist-source-range", "192.0.2.7")]).await;
    let answer = send(&world, &[FIRST, ASKED]).await;
    assert!(answer.contains("x-forwarded-for=192.0.2.7\n"), "{answer}");
    let answer = send(&world, &[b"PROXY TCP4 192.0.2.8 192.0.2.2 56324 443\r\n", ASKED]).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // Its own, by which it looks whether we are well.
    let answer = send(&world, &[b"PROXY UNKNOWN\r\n", ASKED]).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_version_comes_before_tls() {
    let (world, _backend) = world(&["127.0.0.1/32"], &[]).await;
    let mut stream = TcpStream::connect(world.https()).await.unwrap();
    let header =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, 7, 192, 0, 2, 2, 0, 1, 0, 2]].concat();
    stream.write_all(&header).await.unwrap();
    let connector = TlsConnector::from(std::sync::Arc::new(world.authority.client("http/1.1")));
    let name = rustls::pki_types::ServerName::try_from("web.apps.test").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(ASKED).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.contains("x-forwarded-for=192.0.2.7\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_says_nothing_is_not_served() {
    let (world, backend) = world(&["127.0.0.0/8"], &[]).await;
    assert_eq!(send(&world, &[ASKED]).await, "");
    assert_eq!(backend.served.load(std::sync::atomic::Ordering::SeqCst), 0);
    let text = world.metrics.render(&world.table);
    assert!(text.contains("atoll_gateway_proxy_headers_failed_total 1\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_can_t_say_who_they_are() {
    for balancers in [&[][..], &["10.0.0.0/8"][..]] {
        let (world, backend) = world(balancers, &[]).await;
        let answer = send(&world, &[FIRST, ASKED]).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(backend.served.load(std::sync::atomic::Ordering::SeqCst), 0);
        let answer = send(&world, &[ASKED]).await;
        assert!(answer.contains("x-forwarded-for=127.0.0.1\n"), "{answer}");
    }
}
