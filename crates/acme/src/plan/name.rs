//! Which names an authority can vouch for.

use std::net::IpAddr;

/// What is wrong with a host's name, in words; None: it can be ordered.
pub fn refusal(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return Some("it is no name");
    }
    if host.starts_with('*') {
        return Some("wildcards can't be proven by HTTP-01 or TLS-ALPN-01");
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return Some("it is a name of this machine alone");
    }
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if inside.parse::<IpAddr>().is_ok() {
        return Some("it is an address, not a name");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Some("it is not a name of the DNS");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if !host.contains('.') || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("it is not a name below a domain");
    }
    None
}
