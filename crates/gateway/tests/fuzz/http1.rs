//! Requests as an attacker would write them: a plain one, then some of its parts
//! changed, then perhaps some of its bytes. The same seed makes the same bytes.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::backend::{CLAIMED, HOSTS};

/// What a client is about to send.
pub struct Case {
    pub bytes: Vec<u8>,
    /// Nothing was changed: it has to be served.
    pub plain: bool,
    pub id: String,
    /// After how many bytes the client pauses.
    pub pause: Option<usize>,
}

struct Parts {
    method: Vec<u8>,
    target: Vec<u8>,
    version: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Between a name and its value.
    colon: &'static [u8],
    /// The end of a line, and which one has it; the others have CRLF.
    ending: (&'static [u8], usize),
    before: &'static [u8],
    body: Vec<u8>,
    after: Vec<u8>,
}

/// The case of this number in the run of this seed.
pub fn case(seed: u64, number: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let rng = &mut rng;
    let id = format!("{seed:x}-{number}");
    let mut parts = plain(rng, &id);
    // One in four stays as it is: it finds out what the others have left behind.
    let changes = *[0, 1, 1, 1, 2, 2, 3, 4].choose(rng).unwrap();
    let plain = changes == 0 && rng.random_bool(0.9) || rng.random_bool(0.15);
    if !plain {
        for _ in 0..changes {
            change(rng, &mut parts);
        }
    }
    let mut bytes = parts.write();
    if !plain && (changes == 0 || rng.random_bool(0.1)) {
        scramble(rng, &mut bytes);
    }
    let pause = rng.random_bool(0.1).then(|| rng.random_range(0..=bytes.len()));
    Case { bytes, plain, id, pause }
}

fn plain(rng: &mut StdRng, id: &str) -> Parts {
    let method = *["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS"].choose(rng).unwrap();
    let target = *[
        "/",
        "/a",
        "/a/b?c=d",
        "/admin",
        "/admin/x",
        "/adminx",
        "/a%20b",
        "/%41?x=%0d%0a",
        "/a;b=c",
        "/a//b",
    ]
    .choose(rng)
    .unwrap();
    let host = *HOSTS.choose(rng).unwrap();
    let mut headers = vec![
        (b"Host".to_vec(), host.into()),
        (b"X-Id".to_vec(), id.into()),
        (b"Accept".to_vec(), b"*/*".to_vec()),
    ];
    let mut body = Vec::new();
    if matches!(method, "POST" | "PUT") || rng.random_bool(0.05) {
        let length = *[0, 1, 5, 40, 300, 5000].choose(rng).unwrap();
        let data: Vec<u8> = if rng.random_bool(0.3) {
            // A body that is a request, should its length be forgotten.
            smuggled(rng)
        } else {
            (0..length).map(|_| rng.random_range(b' '..=b'~')).collect()
        };
        if rng.random_bool(0.5) {
            headers.push((b"Content-Length".to_vec(), data.len().to_string().into_bytes()));
            body = data;
        } else {
            headers.push((b"Transfer-Encoding".to_vec(), b"chunked".to_vec()));
            let size = rng.random_range(1..=data.len().max(1));
            for chunk in data.chunks(size) {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
        }
    }
    Parts {
        method: method.into(),
        target: target.into(),
        version: b"HTTP/1.1".to_vec(),
        headers,
        colon: b": ",
        ending: (b"\r\n", 0),
        before: b"",
        body,
        after: Vec::new(),
    }
}

impl Parts {
    fn write(&self) -> Vec<u8> {
        let mut bytes = self.before.to_vec();
        let mut number = 0;
        let mut end = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(if number == self.ending.1 { self.ending.0 } else { b"\r\n" });
            number += 1;
        };
        bytes
            .extend_from_slice(&[&self.method[..], b" ", &self.target[..], b" ", &self.version[..]].concat());
        end(&mut bytes);
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[&name[..], self.colon, &value[..]].concat());
            end(&mut bytes);
        }
        end(&mut bytes);
        bytes.extend_from_slice(&self.body);
        bytes.extend_from_slice(&self.after);
        bytes
    }

    fn header(&mut self, name: &[u8]) -> Option<&mut (Vec<u8>, Vec<u8>)> {
        self.headers.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    fn push(&mut self, rng: &mut StdRng, name: &[u8], value: &[u8]) {
        let at = rng.random_range(0..=self.headers.len());
        self.headers.insert(at, (name.to_vec(), value.to_vec()));
    }
}

/// A request that nobody is meant to route.
fn smuggled(rng: &mut StdRng) -> Vec<u8> {
    let host = *["a.test", "b.test", "evil.test"].choose(rng).unwrap();
    let target = *["/admin/smuggled", "/smuggled"].choose(rng).unwrap();
    let start = *["", "0\r\n\r\n", "\r\n\r\n"].choose(rng).unwrap();
    format!("{start}GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Id: smuggled\r\nX-Real-IP: {CLAIMED}\r\n\r\n")
        .into_bytes()
}

const CODINGS: &[&[u8]] = &[
    b"chunked",
    b"Chunked",
    b"chunked, chunked",
    b"gzip, chunked",
    b"chunked, identity",
    b"identity",
    b"identity, chunked",
    b"xchunked",
    b"chunked;q=1",
    b"\x0bchunked",
    b"chunked\t",
    b"\"chunked\"",
    b"",
    b",chunked",
    b"chunked,",
    b"cow\tchunked",
];
const LENGTHS: &[&[u8]] = &[
    b"0",
    b"1",
    b"5",
    b"05",
    b"+5",
    b"-1",
    b"5,5",
    b"5, 6",
    b"0x5",
    b"1e1",
    b"5 5",
    b"",
    b"18446744073709551621",
    b"9223372036854775807",
    b"\xc2\xa05",
    b"5;",
    b"5.0",
];
const NAMES: &[&[u8]] = &[
    b"Content-Length",
    b"content-length",
    b"Content-Length ",
    b"Content_Length",
    b"Content-Length\x00",
    b" Content-Length",
    b"\tContent-Length",
    b"Transfer-Encoding",
    b"transfer-encoding",
    b"Transfer-Encoding ",
    b"Transfer_Encoding",
    b"Transfer-Encoding\t",
    b"\x0bTransfer-Encoding",
    b"X: y\r\nTransfer-Encoding",
];
const HOST_VALUES: &[&[u8]] = &[
    b"b.test",
    b"A.TEST",
    b"a.test.",
    b"a.test:80",
    b"a.test:",
    b"a.test:99999",
    b"a.test:+80",
    b"user@a.test",
    b"a.test@b.test",
    b"a.test,b.test",
    b"a.test b.test",
    b"a.test/admin",
    b"a.test?x",
    b"a.test#b.test",
    b"a.test\\b.test",
    b"[::1]",
    b"[a.test]",
    b"",
    b"b.w.test.w.test",
    b"..w.test",
    b"a.test\xc2\xad",
    b"a%2etest",
];
const TARGETS: &[&[u8]] = &[
    b"http://a.test/x",
    b"http://b.test/x",
    b"HTTP://a.test/x",
    b"https://a.test/x",
    b"http://a.test",
    b"http://a.test?x",
    b"http://a.test#x",
    b"http://a.test:80/x",
    b"http://user@a.test/x",
    b"http://a.test\\@b.test/x",
    b"http:/b.test/x",
    b"http:\\\\b.test\\x",
    b"http:b.test/x",
    b"ftp://a.test/x",
    b"file:///etc/passwd",
    b"//b.test/x",
    b"///x",
    b"a.test:80",
    b"*",
    b"?x",
    b"x",
    b"",
    b"/admin/../x",
    b"/x/../admin",
    b"/x/%2e%2e/admin",
    b"/x/.%2e/admin",
    b"/x/..;/admin",
    b"/%61dmin",
    b"/ADMIN",
    b"/admin%2fx",
    b"/./admin",
    b"\\admin",
    b"/x\\..\\admin",
    b"/x#/admin",
    b"/x?#y",
    b"/x y",
    b"/x HTTP/1.1\r\nX: y",
    b"/x\t/admin",
    b"/\xc3\xa4\xff",
    b"/\xc3\xa4",
];
const METHODS: &[&[u8]] = &[
    b"get",
    b"G ET",
    b"GET\t",
    b"PRI",
    b"CONNECT",
    b"TRACE",
    b"GET/",
    b"",
    b"G\x00T",
    b"PATCH",
    b"\r\nGET",
    b"GET:",
    b"HEAD",
    b"M-SEARCH",
];
const VERSIONS: &[&[u8]] = &[
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/1.10",
    b"HTTP/01.1",
    b"",
    b" HTTP/1.1",
];
const ENDINGS: &[&[u8]] = &[b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n ", b"\x00\r\n", b"\r\n\t"];
const NOMINATED: &[&[u8]] = &[
    b"close",
    b"keep-alive",
    b"close, keep-alive",
    b"content-length",
    b"transfer-encoding",
    b"host",
    b"accept",
    b"x-forwarded-for",
    b"x-real-ip",
    b"upgrade",
    b":authority",
    b"\"host\"",
    b"te, trailer, cookie",
    b"a,b,c,d,e,f,g,h,i,j,k,l",
];
const CLAIMS: &[&[u8]] = &[
    b"X-Forwarded-For",
    b"X_Forwarded_For",
    b"X-Forwarded_For",
    b"X-Real-IP",
    b"X_Real_IP",
    b"Forwarded",
    b"X-Forwarded-Host",
    b"X-Original-Forwarded-For",
];

fn pick(rng: &mut StdRng, all: &[&'static [u8]]) -> &'static [u8] {
    all.choose(rng).unwrap()
}

fn change(rng: &mut StdRng, parts: &mut Parts) {
    match rng.random_range(0..21) {
        0 => {
            let value = pick(rng, LENGTHS);
            parts.push(rng, b"Content-Length", value);
        }
        1 => {
            let value = pick(rng, CODINGS);
            parts.push(rng, b"Transfer-Encoding", value);
        }
        2 => {
            let (name, value) = (pick(rng, NAMES), pick(rng, &[b"5", b"chunked", b"0"]));
            parts.push(rng, name, value);
        }
        3 => {
            let value = pick(rng, LENGTHS);
            if let Some(length) = parts.header(b"content-length") {
                length.1 = value.to_vec();
            }
        }
        4 => {
            let value = pick(rng, CODINGS);
            if let Some(coding) = parts.header(b"transfer-encoding") {
                coding.1 = value.to_vec();
            }
        }
        5 => {
            let value = pick(rng, HOST_VALUES);
            parts.push(rng, b"Host", value);
        }
        6 => {
            let value = pick(rng, HOST_VALUES);
            if let Some(host) = parts.header(b"host") {
                host.1 = value.to_vec();
            }
        }
        7 => parts.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(b"host")),
        8 | 9 => parts.target = pick(rng, TARGETS).to_vec(),
        10 => parts.method = pick(rng, METHODS).to_vec(),
        11 => parts.version = pick(rng, VERSIONS).to_vec(),
        12 => parts.ending = (pick(rng, ENDINGS), rng.random_range(0..parts.headers.len() + 2)),
        13 => {
            let value = pick(rng, NOMINATED);
            parts.push(rng, b"Connection", value);
        }
        14 => {
            let value = pick(rng, &[b"websocket", b"WebSocket", b"h2c", b"foo", b"websocket, foo"]);
            parts.push(rng, b"Upgrade", value);
            parts.push(rng, b"Connection", b"Upgrade");
            parts.after = smuggled(rng);
        }
        15 => {
            let name = pick(rng, CLAIMS);
            parts.push(rng, name, CLAIMED.as_bytes());
        }
        16 => parts.after = smuggled(rng),
        17 => chunk(rng, &mut parts.body),
        18 => {
            parts.colon = pick(rng, &[b":", b" : ", b":\t", b"\t: ", b": \t ", b":\x0b", b"="]);
        }
        19 => parts.before = pick(rng, &[b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x00"]),
        _ => match rng.random_range(0..4) {
            0 => {
                let value = pick(rng, &[b"100-continue", b"200-ok", b""]);
                parts.push(rng, b"Expect", value);
            }
            1 => parts.push(rng, b"TE", b"trailers, chunked"),
            2 => (0..rng.random_range(1..400)).for_each(|turn| {
                parts.headers.push((format!("X-{turn}").into_bytes(), b"y".to_vec()));
            }),
            _ => {
                let length = rng.random_range(1..20_000);
                parts.push(rng, b"X-Long", &vec![b'x'; length]);
            }
        },
    }
}

/// Another size, extension, ending or trailer somewhere in a chunked body.
fn chunk(rng: &mut StdRng, body: &mut Vec<u8>) {
    const TO: &[&[u8]] = &[
        b";a=b\r\n",
        b";a=\"\r\n",
        b";a=\n0\r\n\r\n",
        b"\n",
        b"\r",
        b" \r\n",
        b"\r\n\r\n",
        b"",
        b";\r\n",
        b"0\r\n",
        b"\t;\r\n",
        b"\r\nContent-Length: 5\r\n",
        b"\r\nHost: b.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        b"\r\n0\r\n\r\nGET /admin/smuggled HTTP/1.1\r\nHost: a.test\r\nX-Id: smuggled\r\n\r\n",
        b"ffffffffffffffff0\r\n",
        b"7fffffffffffffff\r\n",
    ];
    let ends: Vec<usize> =
        body.windows(2).enumerate().filter(|(_, two)| *two == b"\r\n").map(|(at, _)| at).collect();
    if let Some(at) = ends.choose(rng) {
        let to = TO.choose(rng).unwrap();
        drop(body.splice(*at..*at + 2, to.iter().copied()));
    }
}

/// Bytes changed without a thought for what they mean.
fn scramble(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] = rng.random(),
            1 => bytes.insert(at, *b"\0\r\n\t :,;\x7f\xff".choose(rng).unwrap()),
            2 => drop(bytes.remove(at)),
            3 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            // The client leaves early.
            4 => bytes.truncate(at),
            _ => {
                let other = rng.random_range(0..bytes.len());
                bytes.swap(at, other);
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_requests() {
    for number in 0..100 {
        assert_eq!(case(7, number).bytes, case(7, number).bytes);
    }
    assert!((0..100).any(|number| case(7, number).bytes != case(8, number).bytes));
}
