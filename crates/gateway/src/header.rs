//! Header maps, in both directions alike, and what a raw head says.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::route::HeaderEdit;

pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a raw request head has a Content-Length. pingora has taken it out of
/// the parsed one when there is a Transfer-Encoding as well.
pub(crate) fn names_length(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

/// A header map that pingora keeps in step with the letter case it was sent in.
pub(crate) trait Headers {
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<()>;
    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<()>;
    fn take(&mut self, name: &HeaderName);
}

macro_rules! headers {
    ($type:ty) => {
        impl Headers for $type {
            fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
                self.insert_header(name, value)
            }
            fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
                self.append_header(name, value).map(drop)
            }
            fn take(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    };
}
headers!(RequestHeader);
headers!(ResponseHeader);

pub(crate) fn edit(edit: &HeaderEdit, headers: &mut impl Headers) -> Result<()> {
    for name in &edit.remove {
        headers.take(name);
    }
    for (name, value) in &edit.set {
        headers.set(name.clone(), value.clone())?;
    }
    for (name, value) in &edit.add {
        headers.add(name.clone(), value.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_in_a_raw_head() {
        let check = |head: &str, wanted: bool| assert_eq!(names_length(head.as_bytes()), wanted, "{head:?}");
        check("POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH : 4\r\n\r\n", true);
        check("POST / HTTP/1.1\nContent-Length:4\n\n", true);
        check("POST / HTTP/1.1\r\nHost: a\r\nX-Content-Length: 4\r\n\r\n", false);
        check("POST /content-length: HTTP/1.1\r\nHost: a\r\n\r\n", false);
    }
}
