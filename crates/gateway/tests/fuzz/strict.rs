//! HTTP/1.1 read as strictly as it is written down: what two servers could read
//! in two ways is not a request here. The backend reads with it what the gateway
//! sends, and the client reads with it what it is about to send.

/// The start of a stream of bytes.
pub enum Read<T> {
    Partial,
    /// What was read, and how many bytes of it there were.
    Done(T, usize),
    Bad(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
}

pub struct Head {
    pub method: String,
    pub target: String,
    /// Of HTTP/1.
    pub minor: u8,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
}

impl Head {
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    pub fn text(&self, name: &str) -> String {
        self.all(name).next().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }
}

pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// One line without its CRLF. No other control character than a tab is in one.
fn line(bytes: &[u8]) -> Read<&[u8]> {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => {
                return match bytes.get(at + 1) {
                    None => Read::Partial,
                    Some(b'\n') => Read::Done(&bytes[..at], at + 2),
                    Some(_) => Read::Bad("a CR without its LF"),
                };
            }
            b'\n' => return Read::Bad("a LF without its CR"),
            b'\t' | b' '..=b'~' | 0x80.. => {}
            _ => return Read::Bad("a control character"),
        }
    }
    Read::Partial
}

macro_rules! read {
    ($read:expr) => {
        match $read {
            Read::Done(value, length) => (value, length),
            Read::Partial => return Read::Partial,
            Read::Bad(why) => return Read::Bad(why),
        }
    };
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a header without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a header's name that is no token");
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value.trim_ascii().to_vec()))
}

fn digits(text: &[u8]) -> Option<usize> {
    let plain = !text.is_empty() && text.len() < 19 && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok()?.parse().ok().filter(|_| plain)
}

pub fn head(bytes: &[u8]) -> Read<Head> {
    let (first, mut at) = read!(line(bytes));
    let mut words = first.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Read::Bad("a request line that is not three words");
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Read::Bad("a method that is no token");
    }
    if target.is_empty() || target.contains(&b'\t') {
        return Read::Bad("a target with a gap");
    }
    let Ok(target) = std::str::from_utf8(target) else { return Read::Bad("a target that is no text") };
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Read::Bad("a version that is not HTTP/1"),
    };
    let mut headers = Vec::new();
    loop {
        let (line, length) = read!(line(&bytes[at..]));
        at += length;
        if line.is_empty() {
            break;
        }
        match field(line) {
            Ok(field) => headers.push(field),
            Err(why) => return Read::Bad(why),
        }
    }
    let values = |name: &str| -> Vec<&Vec<u8>> {
        headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect()
    };
    if values("host").len() != 1 {
        return Read::Bad("not one Host");
    }
    let framing = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Framing::None,
        ([length], []) => match digits(length) {
            Some(length) => Framing::Length(length),
            None => return Read::Bad("a Content-Length that is no number"),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && minor == 1 => Framing::Chunked,
        ([], _) => return Read::Bad("a Transfer-Encoding that is not chunked"),
        (_, []) => return Read::Bad("several Content-Lengths"),
        _ => return Read::Bad("a Content-Length and a Transfer-Encoding"),
    };
    let head = Head {
        method: String::from_utf8_lossy(method).into_owned(),
        target: target.to_owned(),
        minor,
        headers,
        framing,
    };
    Read::Done(head, at)
}

fn chunks(bytes: &[u8]) -> Read<Vec<u8>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (size, length) = read!(line(&bytes[at..]));
        at += length;
        let size = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let plain = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(size).ok().filter(|_| plain);
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return Read::Bad("a chunk's size that is no number");
        };
        if size == 0 {
            break;
        }
        // The data and its CRLF.
        let Some(rest) = at.checked_add(size).and_then(|end| Some((bytes.get(at..end)?, bytes.get(end..)?)))
        else {
            return Read::Partial;
        };
        body.extend_from_slice(rest.0);
        match rest.1 {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Read::Partial,
            _ => return Read::Bad("a chunk that doesn't end where it says"),
        }
        at += size + 2;
    }
    loop {
        let (trailer, length) = read!(line(&bytes[at..]));
        at += length;
        if trailer.is_empty() {
            return Read::Done(body, at);
        }
        if let Err(why) = field(trailer) {
            return Read::Bad(why);
        }
    }
}

/// A whole request at the start of the bytes.
pub fn request(bytes: &[u8]) -> Read<Request> {
    let (head, at) = read!(head(bytes));
    let rest = &bytes[at..];
    let (body, length) = match head.framing {
        Framing::None => (Vec::new(), 0),
        Framing::Length(length) => match rest.get(..length) {
            Some(body) => (body.to_vec(), length),
            None => return Read::Partial,
        },
        Framing::Chunked => read!(chunks(rest)),
    };
    Read::Done(Request { head, body }, at + length)
}

/// Short, and another one for nearly every other body.
pub fn digest(body: &[u8]) -> u64 {
    body.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn what_is_ambiguous_is_no_request() {
    let check = |text: &str, wanted: &str| {
        let read = match request(text.as_bytes()) {
            Read::Partial => "partial".to_owned(),
            Read::Bad(why) => why.to_owned(),
            Read::Done(request, used) => {
                let head = &request.head;
                let body = String::from_utf8_lossy(&request.body);
                format!("{} {} {:?} {body:?} {used}", head.method, head.target, head.framing)
            }
        };
        assert_eq!(read, wanted, "{text:?}");
    };
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", "GET / None \"\" 27");
    check("GET / HTTP/1.1\r\nHost: a\r\n", "partial");
    check("GET / HTTP/1.1\r\nHost: a\n\r\n", "a LF without its CR");
    check("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "a CR without its LF");
    check("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "a request line that is not three words");
    check("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "a header's name that is no token");
    check("GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", "a header's name that is no token");
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "not one Host");
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
    check(&post("Content-Length: 2\r\n", "abc"), "POST / Length(2) \"ab\" 49");
    check(&post("Content-Length: +2\r\n", "ab"), "a Content-Length that is no number");
    check(&post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), "several Content-Lengths");
    let both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n";
    check(&post(both, "0\r\n\r\n"), "a Content-Length and a Transfer-Encoding");
    check(&post("Transfer-Encoding: x\r\n", ""), "a Transfer-Encoding that is not chunked");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    check(&chunked("1;x\r\na\r\n2\r\nbc\r\n0\r\nx: y\r\n\r\nrest"), "POST / Chunked \"abc\" 82");
    check(&chunked("1\r\nab\r\n0\r\n\r\n"), "a chunk that doesn't end where it says");
    check(&chunked("0x1\r\na\r\n0\r\n\r\n"), "a chunk's size that is no number");
    check(&chunked("1\r\na\r\n0\r\n"), "partial");
}
