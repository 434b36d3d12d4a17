//! W3C trace context: a request's `traceparent` and `tracestate` are passed on
//! where they are what they should be. A request without one begins a trace here,
//! and what is malformed reaches nobody.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_error::Result;
use pingora_http::RequestHeader;

pub(crate) const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// Members of a `tracestate`.
const MOST_MEMBERS: usize = 32;

/// The number of a trace, in 32 digits; all zeroes where there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 32]);

impl Default for TraceId {
    fn default() -> Self {
        Self([b'0'; 32])
    }
}

impl TraceId {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Numbers that nobody else has: a keyed hash of how many there were, whose key the
/// system has chosen. To ask the system for each costs as much as to send an answer.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    key: RandomState,
    next: AtomicU64,
}

impl Numbers {
    /// One for a trace and one for its first span; neither is zero.
    fn take(&self) -> [u8; 24] {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 24];
        for (part, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.key.hash_one((turn, part)).to_be_bytes());
        }
        bytes[0] |= u8::from(bytes[..16] == [0; 16]);
        bytes[16] |= u8::from(bytes[16..] == [0; 8]);
        bytes
    }
}

/// Makes a request's trace context one that can be passed on.
pub(crate) fn settle(head: &mut RequestHeader, numbers: &Numbers) -> Result<TraceId> {
    let Some((id, parent)) = parent(&head.headers) else {
        head.remove_header(&STATE);
        let (id, parent) = begin(numbers);
        head.insert_header(PARENT, HeaderValue::from_bytes(&parent).map_err(invalid)?)?;
        return Ok(id);
    };
    if head.headers.get(&PARENT).is_some_and(|header| header.as_bytes() != parent) {
        head.insert_header(PARENT, HeaderValue::from_bytes(&parent).map_err(invalid)?)?;
    }
    if !state_is_good(&head.headers) {
        head.remove_header(&STATE);
    }
    Ok(id)
}

fn invalid(error: http::header::InvalidHeaderValue) -> Box<pingora_error::Error> {
    pingora_error::Error::because(pingora_error::ErrorType::InternalError, "a trace's parent", error)
}

/// The one `traceparent`, in the form of the version that is known here.
fn parent(headers: &HeaderMap) -> Option<(TraceId, [u8; LENGTH])> {
    let mut all = headers.get_all(&PARENT).iter();
    let (Some(header), None) = (all.next(), all.next()) else { return None };
    let header = header.as_bytes();
    let text: [u8; LENGTH] = header.get(..LENGTH)?.try_into().ok()?;
    let hex = |digits: &[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let (version, id, span, flags) = (&text[..2], &text[3..35], &text[36..52], &text[53..]);
    let dashes = [text[2], text[35], text[52]] == *b"---";
    let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    if !dashes || ![version, id, span, flags].into_iter().all(hex) || zero(id) || zero(span) {
        return None;
    }
    // Later versions may say more, of which we know nothing.
    let ends = match (version, header.get(LENGTH)) {
        (b"ff", _) => false,
        (_, None) => true,
        (b"00", Some(_)) => false,
        (_, Some(next)) => *next == b'-',
    };
    if !ends {
        return None;
    }
    let mut known = text;
    known[..2].copy_from_slice(b"00");
    Some((TraceId(id.try_into().ok()?), known))
}

/// Whether all of `tracestate` is a list of keys and values.
fn state_is_good(headers: &HeaderMap) -> bool {
    let mut members = 0;
    for line in headers.get_all(&STATE) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            members += 1;
            let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
            let (key, value) = (&member[..equals], &member[equals + 1..]);
            let key_is_good = (1..=256).contains(&key.len())
                && key.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
                && key.iter().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte)
                });
            let value_is_good = (1..=256).contains(&value.len())
                && value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=');
            if !key_is_good || !value_is_good || members > MOST_MEMBERS {
                return false;
            }
        }
    }
    true
}

/// A new trace. It is sampled, as one is that an app begins by itself.
fn begin(numbers: &Numbers) -> (TraceId, [u8; LENGTH]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 48];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(numbers.take()) {
        pair.copy_from_slice(&[byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]));
    }
    let (id, span) = digits.split_at(32);
    let mut parent = [b'-'; LENGTH];
    parent[..2].copy_from_slice(b"00");
    parent[3..35].copy_from_slice(id);
    parent[36..52].copy_from_slice(span);
    parent[53..].copy_from_slice(b"01");
    let mut trace = TraceId::default();
    trace.0.copy_from_slice(id);
    (trace, parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(headers: &[(&'static str, &str)]) -> (String, Option<String>) {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        let id = settle(&mut head, &Numbers::default()).unwrap();
        let all: Vec<_> = head.headers.get_all("traceparent").iter().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        let parent = all[0].to_str().unwrap().to_owned();
        assert_eq!(&parent[3..35], id.as_str());
        let states = head.headers.get_all("tracestate").iter().map(|state| state.to_str().unwrap());
        let states: Vec<_> = states.collect();
        (parent, (!states.is_empty()).then(|| states.join("|")))
    }

    #[test]
    fn a_good_context_is_passed_on() {
        let check = |parent: &str, wanted: &str| {
            assert_eq!(
                settled(&[("traceparent", parent), ("tracestate", "a=1")]),
                (wanted.to_owned(), Some("a=1".to_owned())),
                "{parent}"
            );
        };
        check(GOOD, GOOD);
        check(&GOOD.replace("-01", "-00"), &GOOD.replace("-01", "-00"));
        // A later version is spoken to in ours.
        check(&GOOD.replacen("00", "42", 1), GOOD);
        check(&format!("{}-more", GOOD.replacen("00", "42", 1)), GOOD);
        let lines = settled(&[("traceparent", GOOD), ("tracestate", "a=1,b@c=2 3"), ("tracestate", "d/e=!")]);
        assert_eq!(lines.1.as_deref(), Some("a=1,b@c=2 3|d/e=!"));
    }

    #[test]
    fn a_bad_context_goes_with_its_state() {
        let check = |parents: &[&str]| {
            let mut headers: Vec<_> = parents.iter().map(|parent| ("traceparent", *parent)).collect();
            headers.push(("tracestate", "a=1"));
            let (parent, state) = settled(&headers);
            assert!(
                !parents.contains(&parent.as_str()) && state.is_none(),
                "{parents:?}: {parent} {state:?}"
            );
            assert!(parent.starts_with("00-") && parent.ends_with("-01") && parent.len() == 55, "{parent}");
        };
        check(&[]);
        check(&[GOOD, GOOD]);
        check(&[""]);
        check(&["nonsense"]);
        check(&[&GOOD.replacen("00", "ff", 1)]);
        check(&[&format!("{GOOD}-more")]);
        check(&[&format!("{}x", GOOD.replacen("00", "42", 1))]);
        check(&[&GOOD.to_uppercase()]);
        check(&[&GOOD.replace('-', "_")]);
        check(&[&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))]);
        check(&[&GOOD.replace("00f067aa0ba902b7", &"0".repeat(16))]);
        check(&[&GOOD[..54]]);
        check(&[&GOOD.replace("b7-01", "b7-0é")]);
    }

    #[test]
    fn a_bad_state_goes_alone() {
        let many: Vec<_> = (0..33).map(|number| format!("k{number}=v")).collect();
        for state in ["a", "A=1", "=1", "a=", "a=b=c", "a=\t1 ", "_a=1", "ä=1", &many.join(",")] {
            let (parent, kept) = settled(&[("traceparent", GOOD), ("tracestate", state)]);
            assert_eq!((parent.as_str(), kept), (GOOD, None), "{state:?}");
        }
        let (_, kept) = settled(&[("traceparent", GOOD), ("tracestate", &many[..32].join(" , "))]);
        assert!(kept.is_some());
    }

    #[test]
    fn traces_are_told_apart() {
        assert_ne!(settled(&[]).0, settled(&[]).0);
        let numbers = Numbers::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let all = numbers.take();
            assert!(seen.insert(all[..16].to_vec()) && seen.insert(all[16..].to_vec()));
        }
    }
}
