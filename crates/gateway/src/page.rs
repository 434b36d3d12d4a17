//! What the gateway answers by itself: short, and saying what is missing.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
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

    /// Who asks is to come again after a time.
    pub fn later(wait: Duration, message: &str) -> Result<Self> {
        let mut page = Self::new(429, message)?;
        page.head.insert_header(header::RETRY_AFTER, wait.as_secs_f64().ceil().max(1.0) as u64)?;
        Ok(page)
    }

    /// Who asks is to log in.
    pub fn login(challenge: &HeaderValue) -> Result<Self> {
        let mut page = Self::new(401, "This app asks for a name and a password.")?;
        page.head.insert_header(header::WWW_AUTHENTICATE, challenge.clone())?;
        Ok(page)
    }

    /// The answer to a challenge (RFC 8555, section 8.3).
    pub fn challenge(answer: Bytes) -> Result<Self> {
        let mut head = ResponseHeader::build(200, Some(3))?;
        head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))?;
        head.insert_header(header::CONTENT_LENGTH, answer.len())?;
        head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
        Ok(Self { head, body: answer })
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

/// The status and the words for a request that failed on its way; 0: the client
/// has left.
pub(crate) fn reason(error: &Error, host: &str) -> (u16, String) {
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(503), _) => (503, format!("No instance of {host} is ready.")),
        (ErrorType::HTTPStatus(413), _) => {
            (413, "The request's body is larger than this app takes.".to_owned())
        }
        (ErrorType::HTTPStatus(504), _) => (504, format!("{host} did not answer in time.")),
        (ErrorType::HTTPStatus(status), _) => (*status, "The request can't be served.".to_owned()),
        (ErrorType::ReadTimedout | ErrorType::WriteTimedout, ErrorSource::Upstream) => {
            (504, format!("{host} did not answer in time."))
        }
        (_, ErrorSource::Upstream) => (502, format!("{host} is not reachable.")),
        (
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => (0, String::new()),
        (_, ErrorSource::Downstream) => (400, "The request can't be read.".to_owned()),
        _ => (500, "The gateway failed.".to_owned()),
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

    #[test]
    fn who_is_to_come_again_is_told_when() {
        let check = |millis: u64, wanted: &str| {
            let page = Page::later(Duration::from_millis(millis), "slowly").unwrap();
            assert_eq!(
                (page.head.status.as_u16(), &page.head.headers["retry-after"]),
                (429, &wanted.parse().unwrap())
            );
        };
        check(0, "1");
        check(100, "1");
        check(1001, "2");
    }
}
