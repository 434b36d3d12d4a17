//! The values that nginx' settings have, read as nginx reads them.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;

/// Nobody waits longer: a year, as `max-age` counts it at most.
const LONGEST: u64 = 366 * 86_400;

/// `8m`, `1g`, `512k`, `1048576`.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let units = [("k", 10), ("m", 20), ("g", 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit.unwrap_or((&text, 0));
    number(digits)?.checked_mul(1 << shift)
}

/// `60`, `60s`, `30d`, `1h30m`, `500ms`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        let count = number(rest.get(..end)?)?;
        rest = rest.get(end..)?;
        let end = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest.get(..end)?.trim_end();
        rest = rest.get(end..)?;
        let seconds = match unit {
            "ms" => {
                total = total.checked_add(Duration::from_millis(count))?;
                continue;
            }
            "" if rest.is_empty() => 1,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "M" => 30 * 86_400,
            "y" => 365 * 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(count.checked_mul(seconds)?))?;
    }
    (total.as_secs() <= LONGEST).then_some(total)
}

/// A time to wait: zero can't be meant, and nobody waits for more than a week.
pub(super) fn timeout(text: &str) -> Option<Duration> {
    time(text).filter(|time| !time.is_zero() && time.as_secs() <= 7 * 86_400)
}

/// Digits and nothing else: no sign.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(crate) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "on" => Some(true),
        "false" | "f" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// What stands between commas.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

pub(super) fn header_value(text: &str) -> Option<HeaderValue> {
    // Not `from_str`: it takes tabs and bytes that are no text to others.
    text.bytes()
        .all(|byte| (b' '..=b'~').contains(&byte))
        .then(|| HeaderValue::from_str(text.trim()).ok())
        .flatten()
}

/// A header that a route may change. Those that frame a message, or belong to
/// one connection, are not for anybody to change: what is routed is what is seen.
pub(super) fn header_name(text: &str) -> Option<HeaderName> {
    const FRAMING: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let name: HeaderName = text.parse().ok()?;
    let own = name == "keep-alive" || name == "proxy-connection";
    (!own && !FRAMING.contains(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_nginx_does() {
        let check = |text: &str, wanted: Option<u64>| assert_eq!(size(text), wanted, "{text}");
        check("0", Some(0));
        check("512", Some(512));
        check("8k", Some(8 << 10));
        check("32M", Some(32 << 20));
        check("1g", Some(1 << 30));
        check("", None);
        check("m", None);
        check("8kk", None);
        check("-1", None);
        check("+1", None);
        check("99999999999999g", None);
        let check = |text: &str, wanted: Option<u64>| {
            assert_eq!(time(text), wanted.map(Duration::from_millis), "{text}");
        };
        check("60", Some(60_000));
        check("60s", Some(60_000));
        check("1h30m", Some(5_400_000));
        check("1h 30m", Some(5_400_000));
        check("500ms", Some(500));
        check("30d", Some(30 * 86_400_000));
        check("0", Some(0));
        check("", None);
        check("x", None);
        check("5 5", None);
        check("1h30", Some(3_630_000));
        check("99999999999999999999", None);
        check("999y", None);
        assert_eq!([timeout("0"), timeout("8d")], [None; 2]);
    }

    #[test]
    fn headers_that_frame_a_message_are_nobodys_to_change() {
        for name in ["Content-Length", "transfer-encoding", "Connection", "host", "Keep-Alive", "a b", ""] {
            assert_eq!(header_name(name), None, "{name}");
        }
        assert_eq!(header_name("X-Frame-Options").unwrap(), "x-frame-options");
        assert_eq!(header_value("a\r\nb"), None);
        assert_eq!(header_value("a\u{e9}"), None);
        assert_eq!(header_value(" a b ").unwrap(), "a b");
    }

    #[test]
    fn networks_are_read_with_and_without_a_length() {
        let check = |text: &str, wanted: Option<&str>| {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), wanted, "{text}");
        };
        check("10.0.0.0/8", Some("10.0.0.0/8"));
        check("10.1.2.3", Some("10.1.2.3/32"));
        check("fd00::/8", Some("fd00::/8"));
        check("::1", Some("::1/128"));
        check("10.0.0.0/33", None);
        check("all", None);
        check("", None);
    }
}
