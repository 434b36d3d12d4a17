//! Requests that come to nothing at an endpoint, and what is said of sending them again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::gateways::{gateway, http_route, to};
use crate::world::{Backend, World};

/// What a backend does with a request that it has read.
#[derive(Debug, Clone, Copy)]
enum Act {
    Close,
    Garbage,
    /// Says nothing until the gateway leaves.
    Stall,
    /// Begins to answer and says no more, or goes away.
    Half,
    HalfAndClose,
    Status(u16),
    Answer,
}

/// A backend that has its own way with each request: the last one with all that follow.
struct Moody {
    address: SocketAddr,
    /// The bodies of what it was asked.
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Moody {
    async fn start(acts: &'static [Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(act(stream, acts, kept.clone()));
            }
        });
        Self { address, seen, task }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn act(mut stream: TcpStream, acts: &'static [Act], seen: Arc<Mutex<Vec<String>>>) {
    let Some(body) = read(&mut stream).await else { return };
    let turn = {
        let mut seen = seen.lock().unwrap();
        seen.push(body);
        seen.len() - 1
    };
    let answer = |status: u16, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    let half = "HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let (answer, stays) = match acts[turn.min(acts.len() - 1)] {
        Act::Close => (String::new(), false),
        Act::Garbage => ("no answer at all\r\n\r\n".to_owned(), false),
        Act::Stall => (String::new(), true),
        Act::Half => (half.to_owned(), true),
        Act::HalfAndClose => (half.to_owned(), false),
        Act::Status(status) => (answer(status, "no"), false),
        Act::Answer => (answer(200, "yes"), false),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    if stays {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// A request's body; None: there was no whole request.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(body.to_owned());
            }
        }
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        text += std::str::from_utf8(&buffer[..read]).unwrap();
    }
}

/// The status and all that came.
async fn ask(address: SocketAddr, host: &str, method: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

const NEXT: &str = "proxy-next-upstream";
const TRIES: &str = "proxy-next-upstream-tries";
const WITHIN: &str = "proxy-next-upstream-timeout";
const READ: &str = "proxy-read-timeout";
const HOST: &str = "web.apps.test";

/// What a client gets of a backend, and how often that was asked.
async fn check(
    annotations: &[(&str, &str)],
    acts: &'static [Act],
    (method, body): (&str, &str),
    wanted: (u16, usize),
) {
    let backend = Moody::start(acts).await;
    let mut world = World::start().await;
    world.app("web", HOST, annotations, &[backend.address]);
    let (status, answer) = ask(world.http(), HOST, method, body).await;
    let seen = backend.seen();
    assert_eq!((status, seen.len()), wanted, "{annotations:?} {acts:?} {method}: {answer}");
    assert!(seen.iter().all(|other| other == body), "{annotations:?} {acts:?} {method}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_says_after_which_failures_a_request_is_sent_again() {
    use Act::{Answer, Close, Garbage, Stall, Status};
    let get = ("GET", "");
    check(&[], &[Close, Answer], get, (502, 1)).await;
    check(&[(NEXT, "error")], &[Close, Answer], get, (200, 2)).await;
    check(&[(NEXT, "timeout http_502")], &[Close, Answer], get, (502, 1)).await;
    check(&[(NEXT, "off"), (TRIES, "5")], &[Close, Answer], get, (502, 1)).await;
    check(&[(NEXT, "timeout"), (READ, "200ms")], &[Stall, Answer], get, (200, 2)).await;
    check(&[(NEXT, "error"), (READ, "200ms")], &[Stall, Answer], get, (504, 1)).await;
    check(&[(NEXT, "invalid_header")], &[Garbage, Answer], get, (200, 2)).await;
    check(&[(NEXT, "error timeout")], &[Garbage, Answer], get, (502, 1)).await;
    check(&[(NEXT, "http_503 http_404")], &[Status(503), Status(404), Answer], get, (200, 3)).await;
    check(&[(NEXT, "http_502 error")], &[Status(503), Answer], get, (503, 1)).await;
    check(&[], &[Status(503), Answer], get, (503, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_says_how_often_and_until_when() {
    use Act::{Answer, Close, Stall, Status};
    let get = ("GET", "");
    check(&[(TRIES, "1")], &[Close, Answer], get, (502, 1)).await;
    check(&[(TRIES, "2")], &[Close, Close, Answer], get, (502, 2)).await;
    check(&[(NEXT, "error")], &[Close, Close, Close, Answer], get, (502, 3)).await;
    check(&[(TRIES, "0")], &[Close, Close, Close, Close, Answer], get, (200, 5)).await;
    check(&[(TRIES, "0")], &[Close], get, (502, 11)).await;
    // The last answer is what the client gets.
    check(&[(NEXT, "http_503"), (TRIES, "2")], &[Status(503), Status(503), Answer], get, (503, 2)).await;
    let limited = [(NEXT, "timeout"), (TRIES, "9"), (WITHIN, "1s"), (READ, "600ms")];
    check(&limited, &[Stall, Stall, Answer], get, (504, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_twice_is_not_sent_twice() {
    use Act::{Answer, Close, Status};
    for method in ["POST", "PATCH", "LOCK"] {
        check(&[(NEXT, "error")], &[Close, Answer], (method, "a body"), (502, 1)).await;
        check(&[(NEXT, "http_503")], &[Status(503), Answer], (method, "a body"), (503, 1)).await;
        check(&[(NEXT, "error non_idempotent")], &[Close, Answer], (method, "a body"), (200, 2)).await;
        check(&[(NEXT, "http_503 non_idempotent")], &[Status(503), Answer], (method, "a"), (200, 2)).await;
    }
    for method in ["PUT", "DELETE"] {
        check(&[(NEXT, "error")], &[Close, Answer], (method, "a body"), (200, 2)).await;
    }
    // More than is kept of a body can't be sent again.
    let large = "0123456789abcdef".repeat(8 << 10);
    check(&[(NEXT, "error non_idempotent")], &[Close, Answer], ("PUT", &large), (502, 1)).await;
    check(&[(NEXT, "http_503 non_idempotent")], &[Status(503), Answer], ("PUT", &large), (503, 1)).await;
    // What is sent again is not counted twice.
    let body = "0123456789abcdef".repeat(2 << 10);
    check(&[(NEXT, "error"), ("proxy-body-size", "50k")], &[Close, Answer], ("PUT", &body), (200, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_is_not_begun_again() {
    let every = "error timeout invalid_header non_idempotent";
    for acts in [&[Act::Half, Act::Answer], &[Act::HalfAndClose, Act::Answer]] {
        let backend = Moody::start(acts).await;
        let mut world = World::start().await;
        let annotations = [(NEXT, every), (READ, "200ms")];
        world.app("web", HOST, &annotations, &[backend.address]);
        let (status, answer) = ask(world.http(), HOST, "GET", "").await;
        assert_eq!((status, backend.seen().len()), (200, 1), "{acts:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{acts:?}: {answer}");
        let own = gateway(&mut world, json!({ "name": "http", "port": 80, "protocol": "HTTP" })).await;
        let retry = json!({ "codes": [503], "attempts": 3 });
        let timeouts = json!({ "backendRequest": "200ms" });
        let rule = json!({ "backendRefs": to("web"), "retry": retry, "timeouts": timeouts });
        http_route(&mut world, &["own.test"], &rule);
        let before = backend.seen().len();
        let again = Moody::start(acts).await;
        world.endpoints("web", &[again.address]);
        let (status, answer) = ask(own.address, "own.test", "GET", "").await;
        assert_eq!(
            (status, again.seen().len(), backend.seen().len()),
            (200, 1, before),
            "{acts:?}: {answer}"
        );
        assert!(answer.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{acts:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_t_be_reached_is_left_for_another_unless_the_ingress_says_no() {
    let backend = Backend::start("one").await;
    // Bound and closed: nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (annotations, wanted) in [
        (&[][..], [200; 4]),
        (&[(NEXT, "error")][..], [200; 4]),
        (&[(NEXT, "timeout")][..], [200, 200, 502, 502]),
        (&[(NEXT, "off")][..], [200, 200, 502, 502]),
        (&[(TRIES, "1")][..], [200, 200, 502, 502]),
    ] {
        let mut world = World::start().await;
        world.app("web", HOST, annotations, &[dead, backend.address]);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(ask(world.http(), HOST, "POST", "a body").await.0);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, wanted, "{annotations:?}");
    }
}
