//! Gateways with ports of their own, and what only their routes can ask for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::gateway_api::{Gateway, GatewayClass, HTTPRoute, TLSRoute};
use gateway::listen::Listener;
use gateway::object::{Id, Object};
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{Backend, World, full, text};

pub fn apply<K: serde::de::DeserializeOwned + Into<Object>>(world: &mut World, object: Value) {
    world.index.apply(serde_json::from_value::<K>(object).unwrap().into());
}

/// A Gateway `gw` with one listener, its port open.
pub async fn gateway(world: &mut World, listener: Value) -> Listener {
    gateway_with(world, listener, Value::Null).await
}

/// With what holds for all its TLS.
pub async fn gateway_with(world: &mut World, listener: Value, tls: Value) -> Listener {
    let bound = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = bound.local_addr().unwrap().port();
    apply::<GatewayClass>(
        world,
        json!({ "metadata": { "name": "atoll" }, "spec": { "controllerName": "atoll.dev/gateway" } }),
    );
    apply::<Gateway>(
        world,
        json!({
            "metadata": { "name": "gw", "namespace": "a" },
            "spec": { "gatewayClassName": "atoll", "listeners": [listener], "tls": tls },
        }),
    );
    apply::<k8s_openapi::api::core::v1::Service>(
        world,
        json!({
            "metadata": {
                "name": "gateway-1",
                "namespace": api::names::SYSTEM_NAMESPACE,
                "annotations": { api::names::GATEWAY_ANNOTATION: "a/gw" },
            },
            "spec": { "ports": [{ "port": listener["port"], "targetPort": port }] },
        }),
    );
    world.server.listen(bound, None).unwrap()
}

pub fn http_route(world: &mut World, hosts: &[&str], rule: &Value) {
    let spec = json!({ "parentRefs": [{ "name": "gw" }], "hostnames": hosts, "rules": [rule] });
    apply::<HTTPRoute>(world, json!({ "metadata": { "name": "r", "namespace": "a" }, "spec": spec }));
}

pub fn to(service: &str) -> Value {
    json!([{ "name": service, "port": 80 }])
}

async fn get(listener: &Listener, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(listener.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_hosts_are_served_at_its_port_and_nowhere_else() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web") }));
    assert_eq!(get(&own, "own.test", "/").await.0, 200);
    assert_eq!(world.get("own.test", "/").await.0, 404);
    assert_eq!(get(&own, "web.apps.test", "/").await.0, 404);
    // A Service that isn't there is the route's fault, one without pods isn't.
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("none") }));
    assert_eq!(get(&own, "own.test", "/").await.0, 500);
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web") }));
    world.endpoints("web", &[]);
    assert_eq!(get(&own, "own.test", "/").await.0, 503);
    world.index.delete(gateway::object::Kind::Gateway, &Id::new("a", "gw"));
    let mut stream = TcpStream::connect(own.address).await.unwrap();
    let mut nothing = Vec::new();
    assert_eq!(stream.read_to_end(&mut nothing).await.unwrap_or(0), 0, "closed without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_clear_text_is_understood() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let io = TokioIo::new(TcpStream::connect(world.http()).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let asked = Request::builder().uri("http://web.apps.test/x").body(full("")).unwrap();
    let answer = sender.send_request(asked).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert!(text(answer).await.contains("path=/x"));
    // A method that begins as the preface does is a method.
    let answer = world.raw("PRINT / HTTP/1.1\r\nHost: web.apps.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_passed_through_by_its_name_untouched() {
    let mut world = World::start().await;
    // The backend is another gateway, which alone has the certificate.
    let inner = Backend::start("inner").await;
    let mut behind = World::start().await;
    behind.app("web", "in.apps.test", &[], &[inner.address]);
    world.app("web", "unused.test", &[], &[behind.https()]);
    let own = gateway(
        &mut world,
        json!({ "name": "tls", "port": 443, "protocol": "TLS", "tls": { "mode": "Passthrough" } }),
    )
    .await;
    let spec = json!({
        "parentRefs": [{ "name": "gw" }],
        "hostnames": ["in.apps.test"],
        "rules": [{ "backendRefs": to("web") }],
    });
    apply::<TLSRoute>(&mut world, json!({ "metadata": { "name": "r", "namespace": "a" }, "spec": spec }));
    let connect = |name: &'static str| {
        let config = behind.authority.client("http/1.1");
        let address = own.address;
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from(name).unwrap();
            tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await
        }
    };
    let mut stream = connect("in.apps.test").await.unwrap();
    stream.write_all(b"GET /deep HTTP/1.1\r\nHost: in.apps.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("backend=inner") && answer.contains("path=/deep"), "{answer}");
    assert!(connect("other.apps.test").await.is_err(), "a name that no route has");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_tries_again_as_often_as_it_says() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
    let rule = |attempts: u32| json!({ "backendRefs": to("web"), "retry": { "codes": [503], "attempts": attempts } });
    http_route(&mut world, &["own.test"], &rule(2));
    // Two failures and then an answer, each time.
    assert_eq!(get(&own, "own.test", "/every-third").await.0, 200);
    assert_eq!(backend.served.load(Ordering::SeqCst), 3);
    http_route(&mut world, &["own.test"], &rule(1));
    assert_eq!(get(&own, "own.test", "/every-third").await.0, 503);
    assert_eq!(backend.served.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_for_a_request_is_limited() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
    let rule = |timeouts: Value| json!({ "backendRefs": to("web"), "timeouts": timeouts });
    for (timeouts, wanted) in [
        (json!({ "request": "100ms" }), 504),
        (json!({ "backendRequest": "100ms" }), 504),
        (json!({ "request": "10s", "backendRequest": "0s" }), 200),
    ] {
        http_route(&mut world, &["own.test"], &rule(timeouts.clone()));
        assert_eq!(get(&own, "own.test", "/slow").await.0, wanted, "{timeouts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_a_copy_and_changes_nothing() {
    let (backend, mirror) = (Backend::start("one").await, Backend::start("mirror").await);
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    world.app("copy", "copy.apps.test", &[], &[mirror.address]);
    let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
    let filter = json!({ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "copy", "port": 80 }, "percent": 50 } });
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web"), "filters": [filter] }));
    for _ in 0..10 {
        let (status, answer) = get(&own, "own.test", "/").await;
        assert!(status == 200 && answer.contains("backend=one"), "{answer}");
    }
    for _ in 0..500 {
        if mirror.served.load(Ordering::SeqCst) == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(mirror.served.load(Ordering::SeqCst), 5, "half of ten");
    // A mirror that is away harms nobody.
    drop(mirror);
    assert_eq!(get(&own, "own.test", "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_another_origin_asks_beforehand() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
    let filter =
        json!({ "type": "CORS", "cors": { "allowOrigins": ["https://a.test"], "allowMethods": ["PUT"] } });
    http_route(&mut world, &["own.test"], &json!({ "backendRefs": to("web"), "filters": [filter] }));
    let ask = |method: &str, origin: &str| {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: own.test\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\nConnection: close\r\n\r\n"
        );
        let address = own.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.to_lowercase()
        }
    };
    let answer = ask("OPTIONS", "https://a.test").await;
    assert!(answer.starts_with("http/1.1 204 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://a.test\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-methods: put\r\n"), "{answer}");
    assert!(!ask("OPTIONS", "https://b.test").await.contains("access-control-allow"));
    assert_eq!(backend.served.load(Ordering::SeqCst), 0, "the app isn't asked");
    let answer = ask("PUT", "https://a.test").await;
    assert!(
        answer.contains("access-control-allow-origin: https://a.test\r\n") && answer.contains("backend=one")
    );
}
