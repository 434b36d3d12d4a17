//! The apps behind the gateway: they read strictly, say what they saw, and write
//! down what should never have come to them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::strict::{self, Framing, Head, Read, Request};
use crate::world::World;

/// An address that clients claim to come from. Nobody believes them.
pub const CLAIMED: &str = "6.6.6.6";
/// Whose requests an app gets.
pub const HOSTS: [&str; 4] = ["a.test", "b.test", "x.w.test", "y.w.test"];
/// At the first host, below this, is another app.
pub const ADMIN: &str = "/admin";

/// The app that a request is for, by the rules and not by the gateway's code.
pub fn owner(host: &str, target: &str) -> Option<usize> {
    let host = host.split(':').next().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    match host.as_str() {
        "a.test" => {
            let admin = path.strip_prefix(ADMIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            Some(if admin { 2 } else { 0 })
        }
        "b.test" => Some(1),
        _ => {
            let label = host.strip_suffix(".w.test")?;
            (!label.is_empty() && !label.contains('.')).then_some(1)
        }
    }
}

#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub wrongs: Mutex<Vec<String>>,
}

impl Seen {
    pub fn wrong(&self, what: String) {
        let mut wrongs = self.wrongs.lock().unwrap();
        if wrongs.len() < 100 {
            wrongs.push(what);
        }
    }
}

/// Three apps and the routes to them.
pub async fn apps(world: &mut World) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let mut addresses = Vec::new();
    for app in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        tokio::spawn(accept(listener, app, seen.clone()));
    }
    world.app("a", "a.test", &[], &addresses[0..1]);
    world.app("b", "b.test", &[], &addresses[1..2]);
    world.app("w", "*.w.test", &[], &addresses[1..2]);
    world.app("admin", "a.test", &[], &addresses[2..3]);
    world.ingress_at("admin", "a.test", ADMIN, &[], false);
    seen
}

async fn accept(listener: TcpListener, app: usize, seen: Arc<Seen>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        tokio::spawn(serve(stream, peer, app, seen.clone()));
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, app: usize, seen: Arc<Seen>) {
    let mut bytes = Vec::new();
    loop {
        match strict::request(&bytes) {
            Read::Done(request, used) => {
                seen.requests.fetch_add(1, Ordering::Relaxed);
                if let Some(why) = wrong(&request, app) {
                    seen.wrong(format!("app {app}, {peer}: {why}: {}", bytes[..used].escape_ascii()));
                }
                bytes.drain(..used);
                if stream.write_all(&answer(&request, app)).await.is_err() {
                    return;
                }
            }
            Read::Partial => match stream.read_buf(&mut bytes).await {
                Ok(1..) => {}
                // A client that left in the middle of its body.
                _ => return,
            },
            Read::Bad(why) => {
                return seen.wrong(format!("app {app}, {peer}: {why}: {}", bytes.escape_ascii()));
            }
        }
    }
}

/// What the client compares with what it sent.
pub fn echo(app: usize, request: &Request) -> String {
    let head = &request.head;
    let (host, id) = (head.text("host"), head.text("x-id"));
    let (length, digest) = (request.body.len(), strict::digest(&request.body));
    format!("{app} {} {} {host} {length} {digest:x} {id}", head.method, head.target)
}

fn answer(request: &Request, app: usize) -> Vec<u8> {
    let text = echo(app, request);
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len()).into_bytes();
    if request.head.method != "HEAD" {
        answer.extend_from_slice(text.as_bytes());
    }
    answer
}

/// Why a request should not be here.
fn wrong(request: &Request, app: usize) -> Option<String> {
    let head = &request.head;
    let host = head.text("host");
    if head.minor != 1 {
        return Some("not HTTP/1.1".to_owned());
    }
    if !head.target.starts_with('/') {
        return Some("a target that is no path".to_owned());
    }
    if owner(&host, &head.target) != Some(app) {
        return Some("another app's".to_owned());
    }
    // What was not routed doesn't have these.
    for (name, wanted) in
        [("x-real-ip", "127.0.0.1"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", host.as_str())]
    {
        let all: Vec<_> = head.all(name).collect();
        if all != [wanted.as_bytes()] {
            return Some(format!("{name} is not the gateway's"));
        }
    }
    claims(head).or_else(|| hops(head))
}

fn claims(head: &Head) -> Option<String> {
    const NAMES: [&str; 8] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-scheme",
        "x-original-forwarded-for",
        "x-real-ip",
        "forwarded",
    ];
    let claim = |name: &str| NAMES.contains(&name.replace('_', "-").as_str());
    let believed = |value: &[u8]| value.windows(CLAIMED.len()).any(|part| part == CLAIMED.as_bytes());
    let (name, _) = head.headers.iter().find(|(name, value)| claim(name) && believed(value))?;
    Some(format!("{name} is the client's claim"))
}

/// What is said from one end of a connection to the other, and no further; and
/// what a backend that doesn't mind underscores would take for it.
fn hops(head: &Head) -> Option<String> {
    const NEVER: [&str; 8] = [
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
        "content_length",
        "transfer_encoding",
    ];
    let websocket = head.text("upgrade").eq_ignore_ascii_case("websocket");
    for (name, value) in &head.headers {
        let own = match name.as_str() {
            "connection" | "upgrade" => websocket,
            // Without a body it would be a promise of one.
            "transfer-encoding" => head.framing == Framing::Chunked && value == b"chunked",
            name => !NEVER.contains(&name),
        };
        if !own {
            return Some(format!("{name} is not for an app"));
        }
    }
    let body = !matches!(head.framing, Framing::None | Framing::Length(0));
    (websocket && body).then(|| "a handshake with a body".to_owned())
}
