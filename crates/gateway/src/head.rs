//! What a request's head must be like before anything is decided by it: of one
//! meaning, whoever reads it. pingora takes some heads that a backend, or a proxy
//! in front of us, may read in another way.

use http::{HeaderMap, HeaderName, Method, Version, header};
use pingora_http::RequestHeader;

/// Why a head is refused; None: it has one meaning.
pub(crate) fn refusal(head: &RequestHeader) -> Option<&'static str> {
    framing(&head.headers).or_else(|| target(&head.method, head.raw_path())).or_else(|| handshake(head))
}

/// A body ends at one place: by one coding or by one length.
fn framing(headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let other = |coding: &http::HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(other) || codings.next().is_some() {
        return Some("The Transfer-Encoding is something else than chunked.");
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let number = |length: &[u8]| (1..19).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
    if lengths.next().is_some_and(|length| !number(length.as_bytes())) || lengths.next().is_some() {
        return Some("The Content-Length is not one number.");
    }
    // Behind CGI and its heirs an underscore is a hyphen.
    if headers.contains_key("content_length") || headers.contains_key("transfer_encoding") {
        return Some("A header has the name of a body's length, but for an underscore.");
    }
    None
}

/// A path, `*` of a whole server, or a URL; pingora has compared that with Host.
fn target(method: &Method, target: &[u8]) -> Option<&'static str> {
    let starts = |with: &[u8]| target.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let known = starts(b"/")
        || starts(b"http://")
        || starts(b"https://")
        || (target == b"*" && *method == Method::OPTIONS);
    (!known).then_some("The request's target is neither a path nor a URL.")
}

/// What follows a WebSocket's handshake is the WebSocket.
fn handshake(head: &RequestHeader) -> Option<&'static str> {
    let upgrade = head.headers.get(header::UPGRADE);
    let websocket = head.version == Version::HTTP_11
        && upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let length = head.headers.get(header::CONTENT_LENGTH);
    let body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'));
    (websocket && body).then_some("A WebSocket's handshake has no body.")
}

/// Those of the headers that have one of these names, also with underscores for hyphens.
pub(crate) fn claimed(headers: &HeaderMap, names: &[HeaderName]) -> Vec<HeaderName> {
    let is_claim = |name: &&HeaderName| {
        names.contains(name)
            || name.as_str().contains('_') && {
                let plain = name.as_str().replace('_', "-");
                names.iter().any(|other| other.as_str() == plain)
            }
    };
    headers.keys().filter(is_claim).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn a_head_has_one_meaning() {
        let check = |headers: &[(&'static str, &str)], refused: bool| {
            let reason = refusal(&head("POST", "/", headers));
            assert_eq!(reason.is_some(), refused, "{headers:?}: {reason:?}");
        };
        check(&[], false);
        check(&[("Content-Length", "5")], false);
        check(&[("Transfer-Encoding", "Chunked")], false);
        check(&[("Upgrade", "websocket"), ("Content-Length", "0")], false);
        check(&[("Upgrade", "h2c"), ("Content-Length", "5")], false);
        check(&[("Content-Length", "5, 5")], true);
        check(&[("Content-Length", "+5")], true);
        check(&[("Content-Length", "")], true);
        check(&[("Content-Length", "9999999999999999999")], true);
        check(&[("Content-Length", "5"), ("Content-Length", "5")], true);
        check(&[("Transfer-Encoding", "gzip, chunked")], true);
        check(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], true);
        check(&[("Content_Length", "5")], true);
        check(&[("Transfer_Encoding", "chunked")], true);
        check(&[("Upgrade", "WebSocket"), ("Content-Length", "5")], true);
        check(&[("Upgrade", "websocket"), ("Transfer-Encoding", "chunked")], true);
    }

    #[test]
    fn a_target_is_a_path_or_a_url() {
        let check = |method: &str, target: &str, refused: bool| {
            assert_eq!(refusal(&head(method, target, &[])).is_some(), refused, "{method} {target}");
        };
        check("GET", "/x?y", false);
        check("GET", "HTTP://a.test/x", false);
        check("GET", "https://a.test", false);
        check("OPTIONS", "*", false);
        check("GET", "*", true);
        check("GET", "x", true);
        check("GET", "?x", true);
        check("GET", "a.test:80", true);
        check("GET", "ftp://a.test/", true);
    }

    #[test]
    fn a_claim_is_found_also_by_its_underscore() {
        let headers = head("GET", "/", &[("X-Real_IP", "1"), ("x-real-ip", "2"), ("other_name", "3")]);
        let mut found = claimed(&headers.headers, &[HeaderName::from_static("x-real-ip")]);
        found.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        assert_eq!(found, ["x-real-ip", "x-real_ip"]);
    }
}
