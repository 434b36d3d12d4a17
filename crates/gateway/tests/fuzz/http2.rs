//! HTTP/2 written by hand, frame by frame, so that it can be wrong: pseudo-headers
//! that are missing, doubled, late or full of what HTTP/1 would take for its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::{CLAIMED, HOSTS, Seen, owner};
use crate::client::Tally;
use crate::strict;

const CLIENTS: u64 = 24;
/// A connection sends so many requests at most.
const STREAMS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);
/// What is wrong may be left without an answer.
const WRONG: Duration = Duration::from_millis(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Field = (Vec<u8>, Vec<u8>);

pub struct Case {
    fields: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    /// The header block is in so many frames.
    frames: usize,
    plain: bool,
    id: String,
    echo: Option<String>,
}

fn field(name: &[u8], value: &[u8]) -> Field {
    (name.to_vec(), value.to_vec())
}

fn pick(rng: &mut StdRng, all: &[&'static [u8]]) -> &'static [u8] {
    all.choose(rng).unwrap()
}

fn case(seed: u64, number: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let rng = &mut rng;
    let id = format!("2-{seed:x}-{number}");
    let method = *["GET", "GET", "POST", "PUT", "DELETE"].choose(rng).unwrap();
    let path = *["/", "/a?b=c", "/admin", "/adminx/y", "/a%20b", "/a//b"].choose(rng).unwrap();
    let host = *HOSTS.choose(rng).unwrap();
    let mut body = Vec::new();
    let mut fields = vec![
        field(b":method", method.as_bytes()),
        field(b":scheme", b"http"),
        field(b":authority", host.as_bytes()),
        field(b":path", path.as_bytes()),
        field(b"x-id", id.as_bytes()),
    ];
    if matches!(method, "POST" | "PUT") {
        body = (0..rng.random_range(0..2000)).map(|_| rng.random_range(b' '..=b'~')).collect();
        if rng.random_bool(0.1) {
            body =
                b"0\r\n\r\nGET /admin/smuggled HTTP/1.1\r\nhost: a.test\r\nx-id: smuggled\r\n\r\n".to_vec();
        }
        if rng.random_bool(0.5) {
            fields.push(field(b"content-length", body.len().to_string().as_bytes()));
        }
    }
    let app = owner(host, path).unwrap();
    let (length, digest) = (body.len(), strict::digest(&body));
    let echo = format!("{app} {method} {path} {host} {length} {digest:x} {id}");
    let plain = rng.random_bool(0.3);
    let mut case =
        Case { fields, body, trailers: Vec::new(), frames: 1, plain, id, echo: Some(echo).filter(|_| plain) };
    if !plain {
        for _ in 0..rng.random_range(1..4) {
            change(rng, &mut case);
        }
    }
    case
}

fn change(rng: &mut StdRng, case: &mut Case) {
    const ENDS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b" HTTP/1.1\r\nhost: b.test\r\n\r\n",
        b"\r\nx-smuggled: 1",
        b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\xff",
        b":",
    ];
    const PSEUDO: &[&[u8]] = &[b":method", b":scheme", b":authority", b":path"];
    const HOP: &[(&[u8], &[u8])] = &[
        (b"connection", b"close"),
        (b"connection", b"content-length"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer_encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"te", b"gzip"),
        (b"te", b"trailers"),
        (b"http2-settings", b"AAAA"),
        (b"content-length", b"0"),
        (b"content-length", b"5"),
        (b"content-length", b"5, 5"),
        (b"content-length", b"+5"),
        (b"content_length", b"5"),
        (b"content-length", b""),
        (b"content-length", b"99999999999999999999"),
        (b"Content-Length", b"5"),
        (b"host", b"b.test"),
        (b"host", b"a.test"),
        (b"host", b""),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x_forwarded_for", b"6.6.6.6"),
        (b"x-real-ip", b"6.6.6.6"),
        (b":protocol", b"websocket"),
        (b":status", b"200"),
        (b":evil", b"x"),
        (b"", b"x"),
        (b"x y", b"x"),
        (b"x\r\ny", b"x"),
        (b"x:y", b"x"),
        (b"cookie", b"a=b"),
        (b"expect", b"100-continue"),
        (b"trailer", b"host"),
    ];
    const PATHS: &[&[u8]] = &[
        b"",
        b"*",
        b"admin",
        b"//b.test/x",
        b"http://b.test/x",
        b"http://a.test/x",
        b"/admin/../x",
        b"/x/%2e%2e/admin",
        b"/x#/admin",
        b"/x y",
        b"/\xc3\xa4",
        b"/\xff",
        b"\\admin",
        b"?x",
    ];
    const AUTHORITIES: &[&[u8]] = &[
        b"",
        b"A.TEST",
        b"a.test:80",
        b"a.test.",
        b"user@a.test",
        b"a.test@b.test",
        b"a.test/admin",
        b"a.test,b.test",
        b"b.test\\a.test",
        b"[::1]",
        b"a.test:",
    ];
    const METHODS: &[&[u8]] =
        &[b"", b"get", b"CONNECT", b"GET / HTTP/1.1", b"G\r\nT", b"HEAD", b"PRI", b"TRACE", b"OPTIONS"];
    let fields = &mut case.fields;
    let at = rng.random_range(0..fields.len());
    match rng.random_range(0..12) {
        0 => {
            let end = pick(rng, ENDS);
            fields[at].1.extend_from_slice(end);
        }
        1 => {
            let end = pick(rng, ENDS);
            let middle = fields[at].1.len() / 2;
            drop(fields[at].1.splice(middle..middle, end.iter().copied()));
        }
        2 => drop(fields.remove(at)),
        3 => {
            let copy = fields[at].clone();
            fields.push(copy);
        }
        4 => {
            let other = rng.random_range(0..fields.len());
            fields.swap(at, other);
        }
        5 | 6 => {
            let (name, value) = *HOP.choose(rng).unwrap();
            fields.push(field(name, value));
        }
        7 => {
            let (name, all) =
                *[(&b":path"[..], PATHS), (&b":authority"[..], AUTHORITIES), (&b":method"[..], METHODS)]
                    .choose(rng)
                    .unwrap();
            let value = pick(rng, all);
            if let Some(field) = fields.iter_mut().find(|(other, _)| other == name) {
                field.1 = value.to_vec();
            }
        }
        8 => {
            let name = pick(rng, PSEUDO);
            case.trailers.push(field(name, b"x"));
        }
        9 => {
            let (name, value) = *HOP.choose(rng).unwrap();
            case.trailers.push(field(name, value));
        }
        10 => case.frames = rng.random_range(2..5),
        _ => case.body.extend_from_slice(&vec![b'x'; rng.random_range(1..500)]),
    }
}

/// The header block, no field compressed: every byte is as it is meant.
fn block(fields: &[Field]) -> Vec<u8> {
    fn text(into: &mut Vec<u8>, text: &[u8]) {
        let mut rest = text.len();
        if rest < 127 {
            into.push(rest as u8);
        } else {
            into.push(127);
            rest -= 127;
            while rest >= 128 {
                into.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            into.push(rest as u8);
        }
        into.extend_from_slice(text);
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn frame(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

impl Case {
    fn write(&self, stream: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let block_bytes = block(&self.fields);
        let size = block_bytes.len().div_ceil(self.frames).max(1);
        let ends = self.body.is_empty() && self.trailers.is_empty();
        let end = if ends { END_STREAM } else { 0 };
        let count = block_bytes.chunks(size).count();
        for (number, part) in block_bytes.chunks(size).enumerate() {
            let last = if number + 1 == count { END_HEADERS } else { 0 };
            let (kind, end) = if number == 0 { (HEADERS, end) } else { (CONTINUATION, 0) };
            frame(&mut bytes, kind, last | end, stream, part);
        }
        if !self.body.is_empty() {
            let end = if self.trailers.is_empty() { END_STREAM } else { 0 };
            frame(&mut bytes, DATA, end, stream, &self.body);
        }
        if !self.trailers.is_empty() {
            frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, stream, &block(&self.trailers));
        }
        bytes
    }
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    next: u32,
}

enum Answer {
    /// Whether its status is 200, and its body.
    Whole(bool, String),
    Reset,
}

impl Connection {
    async fn open(gateway: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(gateway).await?;
        let _ = stream.set_nodelay(true);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        frame(&mut bytes, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        stream.write_all(&bytes).await?;
        Ok(Self { stream, read: Vec::new(), next: 1 })
    }

    /// The next frame: its kind, flags, stream and payload.
    async fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let [a, b, c, kind, flags, stream @ ..] = self.read.as_slice()
                && let Some((stream, rest)) = stream.split_first_chunk::<4>()
            {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = (*kind, *flags, u32::from_be_bytes(*stream), payload.to_vec());
                    self.read.drain(..9 + length);
                    return Ok(frame);
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn ask(&mut self, case: &Case) -> io::Result<Answer> {
        let number = self.next;
        self.next += 2;
        self.stream.write_all(&case.write(number)).await?;
        let (mut good, mut body) = (false, Vec::new());
        loop {
            let (kind, flags, stream, payload) = self.frame().await?;
            match kind {
                SETTINGS if flags & 1 == 0 => {
                    let mut ack = Vec::new();
                    frame(&mut ack, SETTINGS, 1, 0, &[]);
                    self.stream.write_all(&ack).await?;
                }
                PING if flags & 1 == 0 => {
                    let mut ack = Vec::new();
                    frame(&mut ack, PING, 1, 0, &payload);
                    self.stream.write_all(&ack).await?;
                }
                GOAWAY => return Err(io::ErrorKind::ConnectionAborted.into()),
                // 200 is one byte of the static table.
                HEADERS if stream == number => good |= payload.contains(&0x88),
                DATA if stream == number => body.extend_from_slice(&payload),
                RST_STREAM if stream == number => return Ok(Answer::Reset),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && stream == number && flags & END_STREAM != 0 {
                return Ok(Answer::Whole(good, String::from_utf8_lossy(&body).into_owned()));
            }
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
            let mut connection: Option<Connection> = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return tally;
                }
                let case = case(seed, number);
                let mut with = match connection.take().filter(|connection| connection.next / 2 < STREAMS) {
                    Some(connection) => connection,
                    None => match Connection::open(gateway).await {
                        Ok(connection) => connection,
                        Err(_) => continue,
                    },
                };
                let patience = if case.plain { PATIENCE } else { WRONG };
                let answer = tokio::time::timeout(patience, with.ask(&case)).await;
                let sort = if case.plain { "plain" } else { "changed" };
                let what = match answer {
                    Ok(Ok(Answer::Whole(good, body))) => {
                        connection = Some(with);
                        if let Some(wanted) = case.echo.as_ref().filter(|echo| !good || **echo != body) {
                            seen.wrong(format!("{}: the app saw {body:?}, not {wanted:?}", case.id));
                        }
                        if good { "200" } else { "refused" }
                    }
                    Ok(Ok(Answer::Reset)) => {
                        connection = Some(with);
                        "reset"
                    }
                    Ok(Err(_)) => "closed",
                    Err(_) => "waited for",
                };
                if case.plain && what != "200" {
                    seen.wrong(format!("{}: a plain request over HTTP/2: {what}", case.id));
                }
                tally.count(format!("HTTP/2, {sort}: {what}"));
            }
        });
    }
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.add(client.unwrap());
    }
    tally
}

/// A claim is told from the gateway's word by its address.
#[test]
fn a_block_is_read_as_it_was_written() {
    let block = block(&[field(b":path", &[b'x'; 300]), field(b"a", CLAIMED.as_bytes())]);
    assert_eq!(block[..8], *b"\x00\x05:path\x7f");
    // 300 is 127 and 173: 45 and one of 128.
    assert_eq!(block[8..10], [128 + 45, 1]);
    assert_eq!(block[310..], *b"\x00\x01a\x076.6.6.6");
}
