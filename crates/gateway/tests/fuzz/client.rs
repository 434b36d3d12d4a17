//! Sends cases over HTTP/1 and compares the answers with what was sent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::{Seen, echo, owner};
use crate::http1::{Case, case};
use crate::strict::{self, Read};

/// How many clients send at once.
const CLIENTS: u64 = 48;
/// An unfinished request is not waited for much longer than the network takes.
const UNFINISHED: Duration = Duration::from_millis(20);
/// A finished one is answered, however busy the machine is.
const FINISHED: Duration = Duration::from_secs(30);

pub struct Answer {
    pub status: u16,
    pub body: String,
    /// The gateway closes after it.
    pub last: bool,
}

/// What became of the cases.
#[derive(Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn print(&self) {
        for (what, count) in &self.0 {
            println!("{count:>10}  {what}");
        }
    }
}

/// Sends so many cases; what became of them.
pub async fn run(gateway: SocketAddr, seen: &Arc<Seen>, seed: u64, requests: u64) -> Tally {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, seen) = (next.clone(), seen.clone());
        clients.spawn(async move {
            let mut tally = Tally::default();
            let mut connection = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return tally;
                }
                let case = case(seed, number);
                let (kept, outcome) = send(connection.take(), gateway, &case).await;
                connection = kept;
                match outcome {
                    Ok(what) => tally.count(what),
                    Err(wrong) => seen.wrong(format!("{}: {wrong}: {}", case.id, case.bytes.escape_ascii())),
                }
            }
        });
    }
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.add(client.unwrap());
    }
    tally
}

/// Sends one case. What it was and how it was answered; an error is what must
/// not have happened.
async fn send(
    kept: Option<TcpStream>,
    gateway: SocketAddr,
    case: &Case,
) -> (Option<TcpStream>, Result<String, String>) {
    let reused = kept.is_some();
    let mut stream = match kept {
        Some(stream) => stream,
        None => connect(gateway).await,
    };
    let read = strict::request(&case.bytes);
    let (whole, rest) = match &read {
        Read::Done(_, used) => (true, case.bytes.len() - used),
        _ => (false, 0),
    };
    let patience = if whole { FINISHED } else { UNFINISHED };
    let head_only = case.bytes.starts_with(b"HEAD ");
    let answer = exchange(&mut stream, case, head_only, patience).await;
    let answer = match answer {
        // The gateway may close a connection at rest at any time.
        Err(_) if reused => {
            stream = connect(gateway).await;
            exchange(&mut stream, case, head_only, patience).await
        }
        answer => answer,
    };
    let sort = match &read {
        Read::Done(..) if case.plain => "plain",
        Read::Done(..) if rest > 0 => "more than one",
        Read::Done(..) => "well formed",
        Read::Partial => "unfinished",
        Read::Bad(why) => *why,
    };
    let answer = match answer {
        Ok(Some(answer)) => answer,
        Ok(None) if whole => return (None, Err("no answer".to_owned())),
        Ok(None) => return (None, Ok(format!("{sort}: waited for"))),
        Err(_) if case.plain => return (None, Err("closed without an answer".to_owned())),
        Err(_) => return (None, Ok(format!("{sort}: closed"))),
    };
    let outcome = match &read {
        Read::Done(request, _) => compare(case, request, &answer),
        _ => Ok(()),
    };
    let keep = whole && rest == 0 && !answer.last;
    (keep.then_some(stream), outcome.map(|()| format!("{sort}: {}", answer.status)))
}

fn compare(case: &Case, request: &strict::Request, answer: &Answer) -> Result<(), String> {
    let head = &request.head;
    if case.plain && answer.status != 200 {
        return Err(format!("a plain request was answered with {}", answer.status));
    }
    // Elsewhere a target is passed on in another form.
    let comparable = head.target.starts_with('/') && !head.target.contains('#') && head.method != "HEAD";
    if answer.status != 200 || !comparable {
        return Ok(());
    }
    let wanted = owner(&head.text("host"), &head.target).map(|app| echo(app, request));
    if wanted.as_ref() == Some(&answer.body) {
        return Ok(());
    }
    Err(format!("the app saw {:?}, not {wanted:?}", answer.body))
}

async fn connect(gateway: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(gateway).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // Every port is in use for the moment.
            Err(_) => tokio::time::sleep(UNFINISHED).await,
        }
    }
}

/// None: no answer within the time.
async fn exchange(
    stream: &mut TcpStream,
    case: &Case,
    head_only: bool,
    patience: Duration,
) -> io::Result<Option<Answer>> {
    let (first, second) = case.bytes.split_at(case.pause.unwrap_or(case.bytes.len()));
    stream.write_all(first).await?;
    if !second.is_empty() {
        tokio::task::yield_now().await;
        // What was sent so far may have been refused already.
        let _ = stream.write_all(second).await;
    }
    match tokio::time::timeout(patience, answer(stream, head_only)).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Ok(None),
    }
}

/// Reads one answer, and no byte of another.
pub async fn answer(stream: &mut TcpStream, head_only: bool) -> io::Result<Answer> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        bytes.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if (100..200).contains(&status) {
            continue;
        }
        let value = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let last = value("connection") == Some("close");
        let length = value("content-length").and_then(|length| length.parse::<usize>().ok());
        let wanted = if head_only || matches!(status, 204 | 304) { Some(0) } else { length };
        loop {
            match wanted {
                Some(wanted) if bytes.len() >= wanted => {
                    let body = String::from_utf8_lossy(&bytes[..wanted]).into_owned();
                    return Ok(Answer { status, body, last: last || bytes.len() > wanted });
                }
                _ => {}
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                let body = String::from_utf8_lossy(&bytes).into_owned();
                return match wanted {
                    None => Ok(Answer { status, body, last: true }),
                    Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}
