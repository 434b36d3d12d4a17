//! One workspace's flood is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use gateway::index::Scope;
use gateway::tenant::Limits;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::gateways::apply;
use crate::world::{Backend, Body, World, full, websocket};

async fn world(limits: Limits) -> (World, Backend) {
    let backend = Backend::start("one").await;
    let mut world = World::with(Scope { workspace_limits: limits, ..Scope::default() }, &[]).await;
    world.app_in("a", "web", "a.apps.test", &[], &[backend.address]);
    world.app_in("b", "web", "b.apps.test", &[], &[backend.address]);
    (world, backend)
}

/// What a workspace's plan says of the gateway, told by its namespace.
fn plan(world: &mut World, namespace: &str, limits: &[(&str, &str)]) {
    let annotations: serde_json::Map<String, serde_json::Value> = limits
        .iter()
        .map(|(name, most)| (format!("policy.atoll.dev/gateway-{name}"), (*most).into()))
        .collect();
    let labels = serde_json::json!({ api::names::WORKSPACE_LABEL: namespace });
    let metadata = serde_json::json!({ "name": namespace, "labels": labels, "annotations": annotations });
    apply::<k8s_openapi::api::core::v1::Namespace>(world, serde_json::json!({ "metadata": metadata }));
}

/// Asks so often, one by one: how many were served, and the most that a rate allows.
async fn served(world: &World, host: &str, times: usize, rate: f64) -> (usize, f64) {
    let (started, mut client, mut served) = (Instant::now(), client(world).await, 0);
    for _ in 0..times {
        match ask(&mut client, host).await.0 {
            200 => served += 1,
            status => assert_eq!(status, 429),
        }
    }
    (served, (2.0 + started.elapsed().as_secs_f64()) * rate + 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_workspace_has_what_its_plan_says_and_a_change_holds_at_once() {
    let (mut world, backend) = world(Limits { requests_per_second: 5, ..Limits::default() }).await;
    world.app_in("c", "web", "c.apps.test", &[], &[backend.address]);
    plan(&mut world, "a", &[("requests", "20")]);
    plan(&mut world, "b", &[("requests", "0"), ("concurrent", "1")]);
    plan(&mut world, "c", &[]);
    let (narrow, most) = served(&world, "a.apps.test", 300, 20.0).await;
    assert!(narrow >= 40 && narrow as f64 <= most, "{narrow} of at most {most}");
    assert_eq!(served(&world, "b.apps.test", 300, 0.0).await.0, 300);
    let (usual, most) = served(&world, "c.apps.test", 300, 5.0).await;
    assert!(usual >= 10 && usual as f64 <= most, "{usual} of at most {most}");
    let (status, _open) = websocket(world.http(), "b.apps.test").await;
    assert_eq!((status, world.get("b.apps.test", "/").await.0), (101, 429));
    // What is under way goes on; what comes is as the plan says now.
    plan(&mut world, "a", &[]);
    let mut slow = client(&world).await;
    let asked = http::Request::builder().uri("/slow").header("host", "a.apps.test").body(full("")).unwrap();
    let slow = tokio::spawn(async move { slow.send_request(asked).await.unwrap() });
    let before = backend.served.load(Ordering::SeqCst);
    while backend.served.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    plan(&mut world, "a", &[("requests", "1"), ("concurrent", "1")]);
    assert_eq!(world.get("a.apps.test", "/").await.0, 429, "the slow one has the place");
    plan(&mut world, "a", &[("requests", "1")]);
    let (few, most) = served(&world, "a.apps.test", 100, 1.0).await;
    assert!(few >= 1 && few as f64 <= most, "{few} of at most {most}");
    plan(&mut world, "a", &[("requests", "0")]);
    assert_eq!(served(&world, "a.apps.test", 300, 0.0).await.0, 300);
    let answer = slow.await.unwrap();
    assert_eq!((answer.status().as_u16(), crate::world::text(answer).await.as_str()), (200, "slow"));
}

async fn client(world: &World) -> hyper::client::conn::http1::SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(world.http()).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The status, and when to come again.
async fn ask(
    client: &mut hyper::client::conn::http1::SendRequest<Body>,
    host: &str,
) -> (u16, Option<String>) {
    client.ready().await.unwrap();
    let asked = http::Request::builder().uri("/").header("host", host).body(full("")).unwrap();
    let answer = client.send_request(asked).await.unwrap();
    let status = answer.status().as_u16();
    let later = answer.headers().get("retry-after").map(|later| later.to_str().unwrap().to_owned());
    crate::world::text(answer).await;
    (status, later)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workspaces_flood_costs_another_no_request() {
    let rate = 100;
    let (world, backend) = world(Limits { requests_per_second: rate, ..Limits::default() }).await;
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (stop, served, refused) = (stop.clone(), served.clone(), refused.clone());
        let mut client = client(&world).await;
        flood.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match ask(&mut client, "a.apps.test").await {
                    (200, None) => served.fetch_add(1, Ordering::Relaxed),
                    (429, Some(later)) => {
                        assert_eq!(later, "1");
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    other => panic!("{other:?}"),
                };
            }
        });
    }
    // Until there is a flood; then the other's requests, fewer than its burst.
    while refused.load(Ordering::Relaxed) < 500 {
        assert!(flood.try_join_next().is_none(), "the flood has ended");
        tokio::task::yield_now().await;
    }
    let mut steady = client(&world).await;
    for _ in 0..100 {
        assert_eq!(ask(&mut steady, "b.apps.test").await, (200, None));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = flood.join_next().await {
        client.unwrap();
    }
    let served = served.load(Ordering::Relaxed);
    let most = (2.0 + started.elapsed().as_secs_f64()) * f64::from(rate) + 1.0;
    assert!((served as f64) <= most, "{served} of at most {most}");
    assert_eq!(backend.served.load(Ordering::SeqCst), served + 100, "what is refused reaches no backend");
    let text = world.metrics.render(&world.table);
    for line in [
        format!("atoll_gateway_workspace_requests_total{{namespace=\"a\"}} {served}"),
        "atoll_gateway_workspace_requests_total{namespace=\"b\"} 100".to_owned(),
        format!(
            "atoll_gateway_workspace_refused_total{{namespace=\"a\",limit=\"rate\"}} {}",
            refused.load(Ordering::Relaxed)
        ),
        "atoll_gateway_workspace_refused_total{namespace=\"b\",limit=\"rate\"} 0".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_workspace_keeps_open_is_its_own() {
    let (world, _backend) = world(Limits { concurrent: 2, ..Limits::default() }).await;
    let (first, stream) = websocket(world.http(), "a.apps.test").await;
    let (second, _other) = websocket(world.http(), "a.apps.test").await;
    assert_eq!([first, second], [101, 101]);
    assert_eq!(world.get("a.apps.test", "/").await.0, 429);
    assert_eq!(world.get("b.apps.test", "/").await.0, 200);
    let text = world.metrics.render(&world.table);
    assert!(text.contains("atoll_gateway_workspace_open_requests{namespace=\"a\"} 2\n"), "{text}");
    drop(stream);
    // The gateway hears of it when it does.
    while world.get("a.apps.test", "/").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_wait_for_their_share_arrive_whole() {
    let (world, _backend) = world(Limits { bytes_per_second: 1 << 20, ..Limits::default() }).await;
    let mut client = client(&world).await;
    let sent = "0123456789abcdef".repeat(40 << 10);
    let asked = http::Request::builder().method("POST").uri("/echo").header("host", "a.apps.test");
    let started = Instant::now();
    let answer = client.send_request(asked.body(full(sent.clone())).unwrap()).await.unwrap();
    assert!(crate::world::text(answer).await == sent);
    // A quarter more than a second's worth, both ways together.
    assert!(started.elapsed().as_millis() >= 200, "{:?}", started.elapsed());
}
