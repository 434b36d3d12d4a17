//! What the gateway answers by itself: short, and saying what is missing.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;

/// A response that is complete without a backend.
#[derive(Debug)]
pub struct Page {
    pub head: ResponseHeader,
    pub body: Bytes,
}

impl Page {
    pub fn new(status: u16, message: &str) -> Result<Self> {
        let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let reason = reason.unwrap_or("Error");
        let message = escape(message);
        let body = format!(
            "<!doctype html><meta charset=utf-8><title>{status} {reason}</title>\n<h1>{reason}</h1>\n<p>{message}</p>\n"
        );
        let mut head = ResponseHeader::build(status, Some(3))?;
        head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
        Ok(Self { head, body: body.into() })
    }

    /// An answer that is its headers.
    pub fn empty(status: u16, headers: &[(HeaderName, HeaderValue)]) -> Result<Self> {
        let mut head = ResponseHeader::build(status, Some(headers.len()))?;
        for (name, value) in headers {
            head.append_header(name.clone(), value.clone())?;
        }
        Ok(Self { head, body: Bytes::new() })
    }

    pub fn redirect(status: u16, location: &str) -> Result<Self> {
        let mut head = ResponseHeader::build(status, Some(2))?;
        head.insert_header(header::LOCATION, location)?;
        head.insert_header(header::CONTENT_LENGTH, 0)?;
        Ok(Self { head, body: Bytes::new() })
    }
}

/// Host names and paths in a page come from whoever asks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_names_harmlessly() {
        let page = Page::new(404, "no app at <script>").unwrap();
        assert!(String::from_utf8_lossy(&page.body).contains("no app at &lt;script&gt;"));
        assert_eq!(page.head.headers["content-length"], page.body.len().to_string());
    }
}
