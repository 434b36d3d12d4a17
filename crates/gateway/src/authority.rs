//! The host and the path a request names, read strictly: what is routed must be
//! what the backend sees.

/// `host[:port]`, as it was sent and in the form that is looked up.
pub(crate) struct Authority<'a> {
    pub text: &'a str,
    pub host: String,
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (address, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("")))
            }
            None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port? {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // A wildcard would take an empty label for any other.
        let labels = host.split('.').all(|label| !label.is_empty());
        (labels && host.len() <= 253 && host.bytes().all(allowed)).then_some(Self { text, host, port })
    }
}

/// Whether some server would read `.` or `..` in the path, perhaps after
/// decoding it.
pub(crate) fn has_dot_segments(path: &str) -> bool {
    if !path.contains('.') && !path.contains('%') {
        return false;
    }
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    path.split(['/', '\\']).any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        let check = |text: &str, wanted: Option<(&str, Option<u16>)>| {
            let read = Authority::parse(text).map(|authority| (authority.host, authority.port));
            assert_eq!(read.as_ref().map(|(host, port)| (host.as_str(), *port)), wanted, "{text}");
        };
        check("A.Example", Some(("a.example", None)));
        check("a.example.", Some(("a.example", None)));
        check("a.example:8443", Some(("a.example", Some(8443))));
        check("a.example:", Some(("a.example", None)));
        check("[::1]:80", Some(("::1", Some(80))));
        check("10.0.0.1", Some(("10.0.0.1", None)));
        check("a.example:99999", None);
        check("a.example:80x", None);
        check("a.example:+8", None);
        check("a b", None);
        check("a@b", None);
        check("a/b", None);
        check("*.example", None);
        check("[::1", None);
        check("[::1]x", None);
        check("", None);
        check(":80", None);
        check(".a.example", None);
        check("a..example", None);
        check("a.example..", None);
    }

    #[test]
    fn dot_segments_are_found_in_disguise() {
        let check = |path: &str, wanted: bool| assert_eq!(has_dot_segments(path), wanted, "{path}");
        check("/a/b.c/..d/e..", false);
        check("/a/%2ex", false);
        check("/a/../b", true);
        check("/a/.", true);
        check("/a/%2E%2e/b", true);
        check("/a%2f..%2Fb", true);
        check("/a\\..\\b", true);
        check("/a/.%2e", true);
    }
}
