//! The gateway over real sockets.

#![allow(clippy::unwrap_used)]

mod annotations;
mod balancers;
mod challenges;
mod client_certificates;
mod compression;
mod gateways;
mod limits;
mod retries;
mod telling;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::object::{Id, Kind};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use world::{Backend, DEFAULT, World, full, text};

fn request(uri: &str) -> http::request::Builder {
    let parsed: http::Uri = uri.parse().unwrap();
    Request::builder().uri(uri).header("host", parsed.authority().unwrap().as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_reach_the_backend_and_say_who_asks() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let claims = |uri: &str| {
        request(uri)
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "gopher")
            .header("x-forwarded-host", "evil")
            .header("x-real-ip", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("connection", "x-secret")
            .header("x-secret", "1")
    };
    let lines = [
        "backend=one",
        "path=/a?b=c",
        "host=web.apps.test",
        "x-forwarded-for=127.0.0.1",
        "x-forwarded-proto=https",
        "x-forwarded-host=web.apps.test",
        "x-real-ip=127.0.0.1",
    ];
    let check = |body: &str| {
        for line in lines {
            assert!(body.lines().any(|other| other == line), "{line} in {body}");
        }
        assert!(!body.contains("6.6.6.6") && !body.contains("x-secret"), "{body}");
    };
    let mut http1 = world.http1("web.apps.test").await;
    for _ in 0..2 {
        let asked = claims("https://web.apps.test/a?b=c").uri("/a?b=c").body(full("")).unwrap();
        http1.ready().await.unwrap();
        check(&text(http1.send_request(asked).await.unwrap()).await);
    }
    let mut http2 = world.http2("web.apps.test").await;
    for _ in 0..2 {
        let asked =
            Request::builder().uri("https://web.apps.test/a?b=c").header("x-forwarded-for", "6.6.6.6");
        let answer =
            http2.send_request(asked.header("x-real-ip", "6.6.6.6").body(full("")).unwrap()).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        check(&text(answer).await);
    }
    let (status, body) = world.get("web.apps.test", "/x").await;
    assert_eq!(status, 200);
    assert!(body.contains("x-forwarded-proto=http\n"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_served_says_why() {
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[]);
    let check = |(status, body): (u16, String), wanted: u16, saying: &str| {
        assert_eq!(status, wanted, "{body}");
        assert!(body.contains(saying), "{body}");
    };
    check(world.get("other.apps.test", "/").await, 404, "There is no app at other.apps.test.");
    check(world.get("web.apps.test", "/").await, 503, "No instance of web.apps.test is ready.");
    // A port where nothing listens.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.endpoints("web", &[closed]);
    check(world.get("web.apps.test", "/").await, 502, "web.apps.test is not reachable.");
    let backend = Backend::start("one").await;
    world.endpoints("web", &[closed, backend.address]);
    for _ in 0..8 {
        check(world.get("web.apps.test", "/").await, 200, "backend=one");
    }
    world.endpoints("web", &[]);
    check(world.get("web.apps.test", "/").await, 503, "No instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused_and_never_reach_a_backend() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let refused = [
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web.apps.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nTransfer-Encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "GET / HTTP/1.1\r\nHost: web.apps.test\r\nHost: other\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://other.test/ HTTP/1.1\r\nHost: web.apps.test\r\n\r\n",
        "GET /a/../b HTTP/1.1\r\nHost: web.apps.test\r\n\r\n",
        "GET /a/%2e%2E/b HTTP/1.1\r\nHost: web.apps.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.apps.test@evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : web.apps.test\r\n\r\n",
    ];
    for raw in refused {
        let answer = world.raw(raw).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{raw:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "one answer, and the connection is closed: {answer}"
        );
    }
    assert_eq!(backend.served.load(Ordering::SeqCst), 0);
    // An absolute target that agrees is passed on as a path.
    let answer = world
        .raw("GET http://web.apps.test/x HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("path=/x\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_the_hosts_its_certificate_covers() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    for name in ["one", "two"] {
        world.app(name, &format!("{name}.apps.test"), &[], &[backend.address]);
    }
    world.app("other", "other.test", &[], &[backend.address]);
    let mut http2 = world.http2("one.apps.test").await;
    for (host, wanted) in
        [("one.apps.test", 200), ("two.apps.test", 200), ("TWO.apps.test", 200), ("other.test", 421)]
    {
        let asked = Request::builder().uri(format!("https://{host}/")).body(full("")).unwrap();
        assert_eq!(http2.send_request(asked).await.unwrap().status(), wanted, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_goes_to_https_where_the_host_has_tls() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    world.ingress("web", "web.apps.test", &[], true);
    let (status, body) = world.get("web.apps.test:8080", "/x?y").await;
    assert_eq!(status, 308);
    assert!(body.to_lowercase().contains("location: https://web.apps.test/x?y\r\n"), "{body}");
    // A missing Secret costs only the host's own certificate.
    let asked = request("https://web.apps.test/").uri("/").body(full("")).unwrap();
    assert_eq!(world.http1("web.apps.test").await.send_request(asked).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_carries_both_ways() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    // Often, because the backend's answer races with the request's end.
    for _ in 0..200 {
        let mut stream = world.tls("web.apps.test", "http/1.1").await.unwrap();
        let upgrade = "GET /ws HTTP/1.1\r\nHost: web.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&buffer[..read]));
        for message in ["one", "two", "three"] {
            stream.write_all(message.as_bytes()).await.unwrap();
            let read = stream.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], message.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let mut http2 = world.http2("web.apps.test").await;
    let mut http1 = world.http1("web.apps.test").await;
    for protocol in ["h2", "http/1.1"] {
        let (to, from) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures::stream::unfold(from, |mut from| async move {
            from.recv().await.map(|data| (Ok(Frame::data(data)), from))
        });
        let body = BodyExt::boxed(http_body_util::StreamBody::new(Box::pin(frames)));
        to.send("first".into()).await.unwrap();
        let answer = if protocol == "h2" {
            let asked = Request::builder().uri("https://web.apps.test/echo").method("POST");
            http2.send_request(asked.body(body).unwrap()).await
        } else {
            let asked = Request::builder().uri("/echo").header("host", "web.apps.test").method("POST");
            http1.send_request(asked.body(body).unwrap()).await
        };
        let (head, mut answer) = answer.unwrap().into_parts();
        assert_eq!(head.status, 200, "{protocol}: {head:?}");
        check_echo(&to, &mut answer).await;
        drop(to);
        let rest = answer.collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{protocol}: {rest:?}");
    }
    // Whatever came after a body was not a request.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(backend.misled.load(Ordering::SeqCst), 0, "a body ends once");
}

/// Each chunk comes back before the next one is sent.
async fn check_echo(to: &tokio::sync::mpsc::Sender<Bytes>, answer: &mut hyper::body::Incoming) {
    for (turn, word) in ["first", "second", "third"].into_iter().enumerate() {
        if turn > 0 {
            to.send(word.into()).await.unwrap();
        }
        let frame =
            tokio::time::timeout(Duration::from_secs(5), answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_declared_or_not() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[("proxy-body-size", "1k")], &[backend.address]);
    let small = format!(
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    assert!(world.raw(&small).await.starts_with("HTTP/1.1 200 "));
    let declared =
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\nContent-Length: 1025\r\n\r\n";
    assert!(world.raw(declared).await.starts_with("HTTP/1.1 413 "));
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    let answer = world.raw(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_under_a_live_connection() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.test", &[], &[backend.address]);
    world.ingress("web", "web.test", &[], true);
    assert!(
        world.tls("web.test", "http/1.1").await.is_err(),
        "the default certificate doesn't cover the name"
    );
    let secret = |world: &World| world.authority.secret(Id::new("a", "web-tls"), &["web.test"]);
    let first = secret(&world);
    world.index.apply(first);
    let shown = async |world: &World| {
        let stream = world.tls("web.test", "http/1.1").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut live = world.http1("web.test").await;
    let asked = || request("https://web.test/").uri("/").body(full("")).unwrap();
    assert!(text(live.send_request(asked()).await.unwrap()).await.contains("backend=one"));
    let before = shown(&world).await;
    let second = secret(&world);
    world.index.apply(second);
    assert_ne!(shown(&world).await, before);
    assert_eq!(live.send_request(asked()).await.unwrap().status(), 200);
    // A broken default doesn't touch a host with its own.
    world.index.delete(Kind::Secret, &Id::new(DEFAULT.0, DEFAULT.1));
    assert_ne!(shown(&world).await, before);
    assert!(world.tls("x.apps.test", "http/1.1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_cost_a_steady_load_nothing() {
    let backends = [Backend::start("one").await, Backend::start("two").await];
    let mut world = World::start().await;
    let all = [backends[0].address, backends[1].address];
    world.app("web", "web.apps.test", &[], &all);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    let http2 = world.http2("web.apps.test").await;
    for _ in 0..4 {
        let (stop, served, mut http2) = (stop.clone(), served.clone(), http2.clone());
        let mut http1 = world.http1("web.apps.test").await;
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let asked =
                    Request::builder().uri("/").header("host", "web.apps.test").body(full("")).unwrap();
                http1.ready().await.unwrap();
                let answer = http1.send_request(asked).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(text(answer).await.contains("backend="));
                let asked = Request::builder().uri("https://web.apps.test/").body(full("")).unwrap();
                let answer = http2.send_request(asked).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(text(answer).await.contains("backend="));
                served.fetch_add(2, Ordering::Relaxed);
            }
        });
    }
    let mut turn = 0;
    // However slow the machine is; the test ends by what was done.
    while turn < 200 || served.load(Ordering::Relaxed) < 200 {
        turn += 1;
        // The app itself, its endpoints, its neighbours and the certificate.
        let size = format!("{turn}m");
        world.ingress("web", "web.apps.test", &[("proxy-body-size", &size)], false);
        world.endpoints("web", if turn % 2 == 0 { &all } else { &all[..1] });
        world.ingress(&format!("other-{turn}"), &format!("{turn}.apps.test"), &[], false);
        if turn % 10 == 0 {
            let secret = world.authority.secret(Id::new(DEFAULT.0, DEFAULT.1), &["*.apps.test"]);
            world.index.apply(secret);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(turn > 100 && served.load(Ordering::Relaxed) > 100, "{turn} changes, {served:?} requests");
    assert!(backends.iter().all(|backend| backend.served.load(Ordering::SeqCst) > 0));
    let text = world.metrics.render(&world.table);
    assert!(text.contains("atoll_gateway_requests_total{code=\"5xx\"} 0"), "{text}");
    assert!(text.contains("namespace=\"a\",name=\"web\",code=\"2xx\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go_and_a_stop_lets_requests_finish() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let extra = world.server.listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(false)).unwrap();
    let address = extra.address;
    let slow = async move |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: web.apps.test\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let running = [tokio::spawn(slow(address)), tokio::spawn(slow(world.http()))];
    let mut http2 = world.http2("web.apps.test").await;
    let asked = Request::builder().uri("https://web.apps.test/slow").body(full("")).unwrap();
    let http2 = tokio::spawn(async move { http2.send_request(asked).await.unwrap().status() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(extra);
    // The task that accepts ends when it is next looked at.
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.get("web.apps.test", "/").await.0, 200);
    let (http, _) = (world.http.take(), world.https.take());
    drop(http);
    let started = Instant::now();
    world.server.drain(Duration::from_secs(10)).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for answer in running {
        assert!(answer.await.unwrap().unwrap().ends_with("slow"));
    }
    assert_eq!(http2.await.unwrap(), 200);
}
