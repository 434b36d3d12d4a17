//! Streams: as they come, both ways, and ended when they must.

use std::time::Duration;

use api::tree::Node;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use front::Limits;
use http_body_util::BodyExt as _;
use identity::revocation::Revocations;
use tokio::io::AsyncWriteExt as _;

use crate::world::{Proof, World, get};

const EXEC: &str = "/api/v1/namespaces/one-x/pods/p/exec?command=sh&stdin=true";

fn upgrade(token: &str, protocol: &str, more: &str) -> String {
    format!(
        "POST {EXEC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: {protocol}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_watch_comes_piece_by_piece() {
    let world = World::new().await;
    let ada = world.account("ada");
    let mut answer = world.send(get("/api/v1/namespaces/a/pods?watch=1", &ada)).await.into_body();
    world.streams(1).await;
    for piece in ["one\n", "two\n", "three\n"] {
        world.api.chunks.send(piece).unwrap();
        let frame =
            tokio::time::timeout(Duration::from_secs(2), answer.frame()).await.expect("it is held back");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), piece);
    }
    world.api.chunks.send("END").unwrap();
    assert!(answer.frame().await.is_none());
    world.streams(0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_request_upstream() {
    let world = World::new().await;
    let ada = world.account("ada");
    world.workspace("one", "ada");
    for target in ["/api/v1/namespaces/a/pods?watch=1", "/api/v1/namespaces?watch=1"] {
        let answer = world.send(get(target, &ada)).await;
        world.streams(1).await;
        drop(answer);
        world.streams(0).await;
        let mut request = get(&format!("https://localhost{target}"), &ada);
        request.headers_mut().remove("host");
        let answer = world.send_h2(request).await.unwrap();
        world.streams(1).await;
        drop(answer);
        world.streams(0).await;
    }
    let mut raw = world.raw(&upgrade(&ada, "SPDY/3.1", "")).await;
    raw.until("\r\n\r\n").await;
    world.streams(1).await;
    drop(raw);
    world.streams(0).await;
}

#[tokio::test]
async fn upgrades_echo_both_ways() {
    let world = World::new().await;
    let ada = world.account("ada");
    for protocol in ["SPDY/3.1", "websocket"] {
        let mut raw =
            world.raw(&upgrade(&ada, protocol, "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n")).await;
        let head = raw.until("\r\n\r\n").await.to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("connection: upgrade"), "{head}");
        assert!(head.contains(&format!("upgrade: {}", protocol.to_lowercase())), "{head}");
        for word in ["hello|", "and again|"] {
            raw.stream.write_all(word.as_bytes()).await.unwrap();
            assert_eq!(raw.until("|").await, word);
        }
        let seen = world.seen().pop().unwrap();
        assert_eq!(seen.target, EXEC);
        assert_eq!(seen.all("impersonate-user"), ["atoll:ada"]);
        assert_eq!(seen.all("x-stream-protocol-version"), ["v4.channel.k8s.io"]);
        assert_eq!(seen.all("authorization"), ["Bearer front-1"]);
    }
    for protocol in ["h2c", "tls/1.0"] {
        let raw = world.raw(&upgrade(&ada, protocol, "")).await;
        let mut raw = raw;
        assert!(raw.until("\r\n").await.contains("400"), "{protocol}");
    }
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_protocol() {
    let world = World::new().await;
    let ada = world.account("ada");
    let encoded = URL_SAFE_NO_PAD.encode(&ada);
    let text = format!(
        "GET {EXEC} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\
         Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{encoded}, v5.channel.k8s.io\r\n\r\n"
    );
    let mut raw = world.raw(&text).await;
    let head = raw.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let seen = world.seen().pop().unwrap();
    assert_eq!(seen.all("sec-websocket-protocol"), ["v5.channel.k8s.io"], "the token goes no further");
    assert_eq!(seen.all("impersonate-user"), ["atoll:ada"]);
    assert_eq!(seen.all("sec-websocket-key"), ["AQIDBAUGBwgJCgsMDQ4PEA=="]);
}

#[tokio::test]
async fn who_is_shut_out_is_cut_off() {
    let world = World::new().await;
    let bob = world.account("bob");
    let mut others = world.send(get("/api/v1/namespaces/b/pods?watch=1", &bob)).await.into_body();
    for step in ["token", "disabled", "member"] {
        let ada = world.account("ada");
        world.workspace("one", "ada");
        let mut pods = world.send(get("/api/v1/namespaces/one-x/pods?watch=1", &ada)).await.into_body();
        let mut own =
            world.send(get("/api/v1/namespaces?watch=1&resourceVersion=1000", &ada)).await.into_body();
        let mut exec = world.raw(&upgrade(&ada, "SPDY/3.1", "")).await;
        exec.until("\r\n\r\n").await;
        world.streams(4).await;
        match step {
            "token" => {
                let mut revocations = Revocations::default();
                revocations.revoke_account("ada", identity::now());
                world.verifier.set_revocations(revocations);
            }
            "disabled" => world.index.lock().unwrap().set_account("ada", false, true),
            _ => {
                let version = world.api.tick();
                world.index.lock().unwrap().set_workspace("one", Node::of("carol"), Some("one-x"), version);
            }
        }
        let ended = tokio::time::timeout(Duration::from_secs(2), pods.frame()).await;
        assert!(matches!(ended, Ok(Some(Err(_)) | None)), "{step}: the watch goes on: {ended:?}");
        exec.rest().await;
        if step != "member" {
            let ended = tokio::time::timeout(Duration::from_secs(2), own.frame()).await;
            assert!(matches!(ended, Ok(Some(Err(_)) | None)), "{step}: the watch of namespaces goes on");
        } else {
            drop(own);
        }
        world.streams(1).await;
        world.api.chunks.send("still here\n").unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(2), others.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "still here\n", "others are left alone");
        world.verifier.set_revocations(Revocations::default());
    }
}

#[tokio::test]
async fn an_expired_token_ends_its_watch() {
    let world = World::new().await;
    world.account("ada");
    let (token, _) = identity::token::issue(
        &world.key,
        "ada",
        identity::token::Kind::Access,
        identity::token::AUDIENCE,
        identity::now(),
        700,
    )
    .unwrap();
    let token = identity::ExposeSecret::expose_secret(&token).to_owned();
    let mut watch = world.send(get("/apis/apps/v1/deployments?watch=1", &token)).await.into_body();
    world.streams(1).await;
    let ended = tokio::time::timeout(Duration::from_secs(8), watch.frame()).await;
    assert!(matches!(ended, Ok(Some(Err(_)) | None)), "{ended:?}");
    world.streams(0).await;
}

#[tokio::test]
async fn one_account_leaves_room_for_the_others() {
    let world = World::with(Limits { short: 2, long: 1 }, Proof::Token).await;
    let ada = world.account("ada");
    let bob = world.account("bob");
    let slow = format!("GET /slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\n\r\n");
    let mut held = [world.raw(&slow).await, world.raw(&slow).await];
    while world.api.seen.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = world.send(get("/version", &ada)).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(world.get("/version", &bob).await.0, 200);
    world.api.hold.add_permits(2);
    for held in &mut held {
        assert!(held.until("\r\n\r\n").await.contains("200"));
    }
    assert_eq!(world.get("/version", &ada).await.0, 200);
    let _watch = world.send(get("/api/v1/namespaces/a/pods?watch=1", &ada)).await;
    assert_eq!(world.get("/api/v1/namespaces/a/pods?watch=1", &ada).await.0, 429);
}

#[tokio::test]
async fn a_stop_ends_watches_in_order_and_lets_requests_finish() {
    let mut world = World::new().await;
    let ada = world.account("ada");
    let mut watch = world.send(get("/api/v1/namespaces/a/pods?watch=1", &ada)).await.into_body();
    let mut own = world.send(get("/api/v1/namespaces?watch=1", &ada)).await.into_body();
    world.streams(2).await;
    let mut slow =
        world.raw(&format!("GET /slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\n\r\n")).await;
    while world.api.seen.lock().unwrap().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.stop();
    let ended = tokio::time::timeout(Duration::from_secs(2), watch.frame()).await.unwrap();
    assert!(ended.is_none(), "{ended:?}");
    let ended = tokio::time::timeout(Duration::from_secs(2), own.frame()).await.unwrap();
    assert!(ended.is_none(), "{ended:?}");
    world.api.hold.add_permits(1);
    assert!(slow.until("\r\n").await.contains("200"));
    world.stopped().await;
}
