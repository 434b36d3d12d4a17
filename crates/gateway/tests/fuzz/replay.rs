//! The requests by which proxies were got past before, pingora among them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::{self, Seen};
use crate::world::World;

/// What must not reach an app.
const INNER: &str = "GET /admin/smuggled HTTP/1.1\r\nHost: a.test\r\nX-Id: smuggled\r\n\r\n";

struct Attack {
    world: World,
    seen: Arc<Seen>,
}

impl Attack {
    async fn start() -> Self {
        let mut world = World::start().await;
        let seen = backend::apps(&mut world).await;
        Self { world, seen }
    }

    /// The gateway gives one answer and closes, and the apps see so many requests,
    /// all of them routed to them.
    async fn check(&self, request: &str, status: u16, reached: u64) {
        let before = self.seen.requests.load(Ordering::SeqCst);
        let answer = self.world.raw(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {request:?}: {answer}");
        let reached_now = self.seen.requests.load(Ordering::SeqCst) - before;
        assert_eq!(reached_now, reached, "{request:?}");
        let wrongs = self.seen.wrongs.lock().unwrap();
        assert!(wrongs.is_empty(), "{request:?}: {}", wrongs.join("\n"));
    }
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n{body}")
}

/// CVE-2025-4366: an answer that needs no backend left the body on the connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_request_that_we_answer_is_not_the_next_request() {
    let attack = Attack::start().await;
    let length = INNER.len();
    for (start, status) in
        [("POST / HTTP/1.1\r\nHost: nobody.test", 404), ("POST /a/../b HTTP/1.1\r\nHost: a.test", 400)]
    {
        attack.check(&format!("{start}\r\nContent-Length: {length}\r\n\r\n{INNER}"), status, 0).await;
        let chunked =
            format!("{start}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{INNER}\r\n0\r\n\r\n");
        attack.check(&chunked, status, 0).await;
    }
}

/// CVE-2026-2833: what follows a wish to upgrade went on before it was granted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_an_upgrade_that_was_not_granted() {
    let attack = Attack::start().await;
    for protocol in ["websocket", "WebSocket", "foo", "h2c", "websocket, foo"] {
        let upgrade = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{upgrade}\r\n{INNER}");
        attack.check(&request, 200, 1).await;
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    attack.check(&post(&format!("{upgrade}Content-Length: {}\r\n", INNER.len()), INNER), 400, 0).await;
    attack.check(&post(&format!("{upgrade}Transfer-Encoding: chunked\r\n"), "0\r\n\r\n"), 400, 0).await;
}

/// CVE-2026-2835: bodies of HTTP/1.0 and lists of codings were framed by guessing.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_one_length() {
    let attack = Attack::start().await;
    let old =
        |headers: &str, body: &str| post(headers, body).replace("HTTP/1.1\r\nHost: a", "HTTP/1.0\r\nHost: a");
    let chunked = format!("0\r\n\r\n{INNER}");
    attack.check(&old("Transfer-Encoding: chunked\r\n", &chunked), 400, 0).await;
    // Without a length there is no body: what follows is dropped.
    attack.check(&old("", INNER), 200, 1).await;
    attack.check(&old("Connection: keep-alive\r\n", INNER), 200, 1).await;
    for coding in [
        "chunked, chunked",
        "gzip, chunked",
        "identity, chunked",
        "chunked, identity",
        "identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        ",chunked",
        "",
    ] {
        attack.check(&post(&format!("Transfer-Encoding: {coding}\r\n"), &chunked), 400, 0).await;
    }
    let two = |first: &str, second: &str| format!("{first}\r\n{second}\r\n");
    let coding = "Transfer-Encoding: chunked";
    attack.check(&post(&two(coding, coding), &chunked), 400, 0).await;
    attack.check(&post(&two(coding, "Transfer-Encoding: identity"), &chunked), 400, 0).await;
    attack.check(&post(&two("Transfer-Encoding: identity", coding), &chunked), 400, 0).await;
    // cloudflare/pingora#945: one of the two lengths was dropped, and the request served.
    for length in ["0", "5", "13"] {
        let length = format!("Content-Length: {length}");
        attack.check(&post(&two(&length, coding), &chunked), 400, 0).await;
        attack.check(&post(&two(coding, &length), &chunked), 400, 0).await;
    }
    for length in ["5, 5", "5,6", "+5", "-5", "0x5", "5 5", "", "99999999999999999999"] {
        attack.check(&post(&format!("Content-Length: {length}\r\n"), "abcde"), 400, 0).await;
    }
    attack.check(&post(&two("Content-Length: 5", "Content-Length: 5"), "abcde"), 400, 0).await;
}

/// A backend that takes an underscore for a hyphen would see another length, or a
/// client's word for the gateway's.
#[tokio::test(flavor = "multi_thread")]
async fn an_underscore_is_no_hyphen() {
    let attack = Attack::start().await;
    attack.check(&post("Content_Length: 5\r\n", ""), 400, 0).await;
    attack.check(&post("Transfer_Encoding: chunked\r\n", ""), 400, 0).await;
    for claim in ["X_Forwarded_For", "X-Forwarded_For", "x_real_ip", "X_Forwarded_Proto"] {
        attack.check(&post(&format!("{claim}: 6.6.6.6\r\nConnection: close\r\n"), ""), 200, 1).await;
    }
}

/// What `Connection` names is taken out, which must not change where a body ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_connection_names_still_counts() {
    let attack = Attack::start().await;
    let length = format!("Content-Length: {}\r\n", INNER.len());
    attack.check(&post(&format!("Connection: content-length, close\r\n{length}"), INNER), 200, 1).await;
    let chunked = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
    let coding = "Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked\r\n";
    attack.check(&post(coding, &chunked), 200, 1).await;
    attack.check(&post("Connection: host, close\r\n", ""), 400, 0).await;
}

/// A target names one app: the one whose host the request has.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_names_the_host_that_is_asked() {
    let attack = Attack::start().await;
    let get = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    for target in [
        "http://b.test/",
        "http://user@a.test/",
        "http://a.test@b.test/",
        "ftp://a.test/",
        "a.test:80",
        "*",
        "x",
        "?x",
    ] {
        attack.check(&get(target, "a.test"), 400, 0).await;
    }
    for target in ["http://a.test/", "http://a.test", "HTTP://a.test/x", "http://a.test?x"] {
        attack.check(&get(target, "a.test"), 200, 1).await;
    }
}

/// Nothing is below a wildcard by an empty label.
#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_takes_no_empty_label() {
    let attack = Attack::start().await;
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    attack.check(&get("z.w.test"), 200, 1).await;
    for host in [".w.test", "z..w.test", "z.w.test..", "."] {
        attack.check(&get(host), 400, 0).await;
    }
}
