//! Answers that are sent compressed: text, to clients that take it, where a route
//! wants it.
//!
//! The body is compressed as it goes by. What a workspace's answers take of
//! memory and processor by this is bounded: beyond that they are sent as they are.

use std::any::Any;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::header::length;
use crate::tenant::Tenant;

/// Shorter answers fit into a packet anyway.
const SHORTEST: u64 = 1024;
/// Answers of one workspace that are compressed at once.
const AT_ONCE: u32 = 32;
/// Of gzip: most of the gain for little of the time.
const GZIP: Level = Level::new(4);
/// Of brotli: above this each step costs far more than it gains, and a window of
/// 256 KiB is enough for a page.
const BROTLI: (u32, u32) = (4, 18);

const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Brotli,
}

impl Coding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    /// What a client likes best of what there is; None: the answer as it is.
    fn chosen(headers: &HeaderMap) -> Option<Self> {
        let (mut gzip, mut brotli, mut any) = (None, None, None);
        for line in headers.get_all(header::ACCEPT_ENCODING) {
            for member in line.to_str().ok()?.split(',') {
                let mut parts = member.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                let weight = match parts.next() {
                    None => 1.0,
                    Some(text) => text
                        .strip_prefix("q=")
                        .or_else(|| text.strip_prefix("Q="))
                        .and_then(|text| text.parse::<f32>().ok())
                        .filter(|weight| (0.0..=1.0).contains(weight))
                        .unwrap_or(0.0),
                };
                let place = match name.to_ascii_lowercase().as_str() {
                    "gzip" | "x-gzip" => &mut gzip,
                    "br" => &mut brotli,
                    "*" => &mut any,
                    _ => continue,
                };
                *place = Some(weight);
            }
        }
        let weight = |named: Option<f32>| named.or(any).unwrap_or(0.0);
        let (gzip, brotli) = (weight(gzip), weight(brotli));
        match (gzip > 0.0, brotli > 0.0) {
            (_, true) if brotli >= gzip => Some(Self::Brotli),
            (true, _) => Some(Self::Gzip),
            _ => None,
        }
    }
}

/// A workspace's place for one more answer.
struct Place(Arc<Tenant>);

impl Place {
    fn take(tenant: &Arc<Tenant>) -> Option<Self> {
        let place = Self(tenant.clone());
        (counter(&place.0).fetch_add(1, Ordering::Relaxed) < AT_ONCE).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        counter(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

fn counter(tenant: &Tenant) -> &AtomicU32 {
    &tenant.compressing
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), GZIP)),
            Coding::Brotli => {
                Self::Brotli(Box::new(CompressorWriter::new(Vec::new(), 4096, BROTLI.0, BROTLI.1)))
            }
        }
    }

    fn write(&mut self, bytes: &[u8], flush: bool) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                if flush {
                    encoder.flush()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Brotli(encoder) => {
                encoder.write_all(bytes)?;
                if flush {
                    encoder.flush()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
        }
    }
}

/// What becomes of one answer. pingora has a module of its own for this; once it
/// is on, it panics where an answer's end is told twice.
#[derive(Default)]
pub(crate) struct Compression {
    /// What the client takes, once it is known that the route wants it.
    wanted: Option<(Option<Coding>, Arc<Tenant>)>,
    encoding: Option<(Encoder, Place)>,
    /// Parts are sent as they come: it is not known when the next one does.
    flush: bool,
}

pub(crate) struct Builder;

impl HttpModuleBuilder for Builder {
    fn init(&self) -> Module {
        Box::new(Compression::default())
    }
}

impl Compression {
    /// The route of a request wants its answer compressed.
    pub fn want(&mut self, request: &RequestHeader, tenant: &Arc<Tenant>) {
        let body = request.method != Method::HEAD && request.method != Method::CONNECT;
        if body && request.version >= Version::HTTP_11 {
            self.wanted = Some((Coding::chosen(&request.headers), tenant.clone()));
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some((encoder, _place)) = self.encoding.take() else { return Ok(None) };
        let rest = encoder.finish().or_err(ErrorType::InternalError, "compressing an answer")?;
        Ok(Some(rest.into()))
    }
}

#[async_trait]
impl HttpModule for Compression {
    async fn response_header_filter(&mut self, head: &mut ResponseHeader, end: bool) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let Some((coding, tenant)) = self.wanted.take() else { return Ok(()) };
        if end || !can_be(head) {
            return Ok(());
        }
        // Who keeps answers for others must know that they differ, this one too.
        vary(head)?;
        let Some((coding, place)) = coding.zip(Place::take(&tenant)) else { return Ok(()) };
        self.flush = length(&head.headers).is_none();
        change(head, coding)?;
        self.encoding = Some((Encoder::new(coding), place));
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let Some((encoder, _)) = &mut self.encoding else { return Ok(()) };
        let mut made = Vec::new();
        if let Some(bytes) = body.as_ref().filter(|bytes| !bytes.is_empty()) {
            made = encoder
                .write(bytes, self.flush && !end)
                .or_err(ErrorType::InternalError, "compressing an answer")?;
        }
        if end && let Some(rest) = self.finish()? {
            made.extend_from_slice(&rest);
        }
        *body = (!made.is_empty()).then(|| made.into());
        Ok(())
    }

    /// Trailers would follow the body; there is room for one of them.
    fn response_trailer_filter(&mut self, _: &mut Option<Box<HeaderMap>>) -> Result<Option<Bytes>> {
        self.finish()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.finish()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Whether an answer is one whose body may be changed, and gains by it.
fn can_be(head: &ResponseHeader) -> bool {
    let headers = &head.headers;
    let status = head.status.as_u16();
    let whole = status >= 200 && !matches!(status, 204 | 205 | 206 | 304);
    let no_transform = headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let directives = value.as_bytes().split(|byte| *byte == b',');
        directives.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"no-transform"))
    });
    whole
        && !no_transform
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && length(headers).is_none_or(|length| length >= SHORTEST)
        && headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| is_text(value.split(';').next().unwrap_or_default().trim()))
}

/// Events are text, too, but each is to arrive when it happens.
fn is_text(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    match kind.split_once('/') {
        Some(("text", rest)) => rest != "event-stream",
        Some(("application", rest)) => {
            let known = [
                "javascript",
                "x-javascript",
                "json",
                "manifest",
                "rss",
                "wasm",
                "xml",
                "x-ndjson",
                "x-yaml",
                "yaml",
                "vnd.ms-fontobject",
                "x-font-ttf",
            ];
            known.contains(&rest) || rest.ends_with("+json") || rest.ends_with("+xml")
        }
        Some(("image", rest)) => ["svg+xml", "bmp", "x-icon", "vnd.microsoft.icon"].contains(&rest),
        Some(("font", rest)) => ["ttf", "otf"].contains(&rest),
        _ => false,
    }
}

fn vary(head: &mut ResponseHeader) -> Result<()> {
    let said = head.headers.get_all(header::VARY).iter().any(|value| {
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.into_iter().any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
    });
    if !said {
        head.append_header(header::VARY, HeaderValue::from_static("accept-encoding"))?;
    }
    Ok(())
}

fn change(head: &mut ResponseHeader, coding: Coding) -> Result<()> {
    head.insert_header(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()))?;
    head.remove_header(&header::CONTENT_LENGTH);
    head.remove_header(&header::ACCEPT_RANGES);
    for digest in &DIGESTS {
        head.remove_header(digest);
    }
    head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    // The same thing in other bytes: what tells those apart no longer holds.
    let etag = head.headers.get(header::ETAG).map(|etag| etag.as_bytes().to_vec());
    match etag {
        Some(strong) if strong.starts_with(b"\"") => {
            let weak = [b"W/", strong.as_slice()].concat();
            match HeaderValue::from_bytes(&weak) {
                Ok(weak) => head.insert_header(header::ETAG, weak)?,
                Err(_) => drop(head.remove_header(&header::ETAG)),
            }
        }
        Some(weak) if weak.starts_with(b"W/") => {}
        Some(_) => drop(head.remove_header(&header::ETAG)),
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::tenant::Limits;

    fn unpack(coding: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            "gzip" => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
            "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
            other => panic!("{other}"),
        };
        out
    }

    fn module(accept: &str) -> (Compression, Arc<Tenant>) {
        let tenant = Arc::new(Tenant::new("a", Limits::default()));
        let mut module = Compression::default();
        module.want(&request("GET", accept), &tenant);
        (module, tenant)
    }

    fn request(method: &str, accept: &str) -> RequestHeader {
        let mut head = RequestHeader::build(method, b"/", None).unwrap();
        head.append_header("accept-encoding", accept).unwrap();
        head
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    /// The head that becomes of an answer to a client that takes gzip.
    fn headed(status: u16, headers: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = answer(status, headers);
        let (mut module, _) = module("gzip");
        futures::executor::block_on(module.response_header_filter(&mut head, false)).unwrap();
        head
    }

    #[test]
    fn a_client_says_what_it_takes() {
        let check = |accept: &str, wanted: Option<Coding>| {
            assert_eq!(Coding::chosen(&request("GET", accept).headers), wanted, "{accept:?}");
        };
        check("", None);
        check("identity", None);
        check("gzip, deflate", Some(Coding::Gzip));
        check("gzip, deflate, br, zstd", Some(Coding::Brotli));
        check("GZIP", Some(Coding::Gzip));
        check("br;q=0.5, gzip;q=0.8", Some(Coding::Gzip));
        check("br;q=0, gzip;q=0", None);
        check("br;q=0, *", Some(Coding::Gzip));
        check("*;q=0", None);
        check("gzip;q=2", None);
        check("gzip;q=nonsense", None);
        check("gzip; q=0.001", Some(Coding::Gzip));
    }

    #[test]
    fn only_whole_text_is_compressed() {
        let json = ("content-type", "application/json");
        let check = |status: u16, headers: &[(&'static str, &str)], wanted: bool| {
            let head = headed(status, headers);
            let coded = head.headers.get("content-encoding").is_some_and(|coding| coding == "gzip");
            assert_eq!(coded, wanted, "{status} {headers:?}");
            assert_eq!(head.headers.contains_key("transfer-encoding"), wanted);
        };
        check(200, &[json], true);
        check(200, &[json, ("content-length", "1024")], true);
        check(404, &[("content-type", "text/HTML; charset=utf-8")], true);
        check(200, &[("content-type", "image/svg+xml")], true);
        check(200, &[("content-type", "application/problem+json")], true);
        check(200, &[json, ("content-length", "1023")], false);
        check(200, &[], false);
        check(200, &[("content-type", "image/png")], false);
        check(200, &[("content-type", "text/event-stream; charset=utf-8")], false);
        check(200, &[("content-type", "application/grpc")], false);
        check(200, &[json, ("content-encoding", "br")], false);
        check(200, &[json, ("cache-control", "public,NO-TRANSFORM")], false);
        check(206, &[json, ("content-range", "bytes 0-1/2")], false);
        check(204, &[json], false);
        check(304, &[json], false);
        check(101, &[json], false);
    }

    #[test]
    fn a_head_says_what_its_body_has_become() {
        let head = headed(
            200,
            &[
                ("content-type", "text/plain"),
                ("content-length", "4096"),
                ("accept-ranges", "bytes"),
                ("content-md5", "x"),
                ("etag", "\"a\""),
                ("vary", "origin"),
            ],
        );
        let get = |name: &str| {
            let all = head.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            all.collect::<Vec<_>>().join("|")
        };
        assert_eq!(
            ["content-length", "accept-ranges", "content-md5", "etag", "vary"].map(get),
            ["", "", "", "W/\"a\"", "origin|accept-encoding"]
        );
        // One that stays as it is for this client differs for another.
        let mut other = answer(200, &[("content-type", "text/plain"), ("etag", "\"a\"")]);
        let (mut module, _) = module("identity");
        futures::executor::block_on(module.response_header_filter(&mut other, false)).unwrap();
        assert_eq!(
            (&other.headers["vary"], &other.headers["etag"]),
            (&"accept-encoding".parse().unwrap(), &"\"a\"".parse().unwrap())
        );
        for vary in ["*", "Origin, Accept-Encoding"] {
            let head = headed(200, &[("content-type", "text/plain"), ("vary", vary)]);
            assert_eq!(head.headers.get_all("vary").iter().count(), 1, "{vary}");
        }
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_however_its_end_is_told() {
        let parts: Vec<Bytes> =
            (0..50).map(|part| Bytes::from(format!("{part} some text, ").repeat(40))).collect();
        for accept in ["gzip", "br"] {
            for end in ["with the last part", "after it", "by done", "by trailers", "twice"] {
                let (mut module, tenant) = module(accept);
                let mut head = answer(200, &[("content-type", "text/plain")]);
                futures::executor::block_on(module.response_header_filter(&mut head, false)).unwrap();
                let mut out = Vec::new();
                for (place, part) in parts.iter().enumerate() {
                    let last = end == "with the last part" && place + 1 == parts.len();
                    let mut body = Some(part.clone());
                    module.response_body_filter(&mut body, last).unwrap();
                    // What came goes on at once.
                    let made = body.unwrap();
                    assert!(!made.is_empty());
                    out.extend_from_slice(&made);
                }
                assert_eq!(
                    tenant.compressing.load(Ordering::Relaxed),
                    u32::from(end != "with the last part")
                );
                let mut body = None;
                match end {
                    "by done" => body = module.response_done_filter().unwrap(),
                    "by trailers" => body = module.response_trailer_filter(&mut None).unwrap(),
                    _ => module.response_body_filter(&mut body, true).unwrap(),
                }
                out.extend(body.into_iter().flatten());
                if end == "twice" {
                    assert_eq!(module.response_done_filter().unwrap(), None);
                }
                assert!(unpack(accept, &out) == parts.concat(), "{accept} {end}");
                assert_eq!(tenant.compressing.load(Ordering::Relaxed), 0);
            }
        }
    }

    #[test]
    fn a_workspace_has_so_many_places_and_gets_them_back() {
        let tenant = Arc::new(Tenant::new("a", Limits::default()));
        let places: Vec<_> = (0..40).filter_map(|_| Place::take(&tenant)).collect();
        assert_eq!(places.len(), AT_ONCE as usize);
        drop(places);
        assert_eq!(tenant.compressing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_asks_for_no_body_gets_none() {
        let (mut module, tenant) = module("gzip");
        module.wanted = None;
        module.want(&request("HEAD", "gzip"), &tenant);
        assert!(module.wanted.is_none());
    }
}
