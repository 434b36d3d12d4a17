//! What of a request's headers goes on, and what front says instead.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use secrecy::SecretString;

use crate::refusal::Refusal;

/// The protocol by which a browser, which can set no header, sends its token.
const PROTOCOL_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";
const PROTOCOLS: HeaderName = http::header::SEC_WEBSOCKET_PROTOCOL;

/// Takes the token out of the headers.
///
/// # Errors
/// When there is none, or more than one place that could be meant.
pub fn take_token(headers: &mut HeaderMap) -> Result<SecretString, Refusal> {
    let mut found = Vec::new();
    for value in headers.get_all(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| Refusal::BadToken)?;
        let (scheme, token) = value.split_once(' ').ok_or(Refusal::BadToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::BadToken);
        }
        found.push(token.trim_matches(' ').to_owned());
    }
    headers.remove(AUTHORIZATION);
    let mut others = Vec::new();
    for value in headers.get_all(PROTOCOLS) {
        for protocol in value.to_str().map_err(|_| Refusal::BadToken)?.split(',').map(str::trim) {
            match protocol.strip_prefix(PROTOCOL_TOKEN) {
                Some(encoded) => {
                    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Refusal::BadToken)?;
                    found.push(String::from_utf8(bytes).map_err(|_| Refusal::BadToken)?);
                }
                None => others.push(protocol.to_owned()),
            }
        }
    }
    if headers.remove(PROTOCOLS).is_some() && !others.is_empty() {
        let value = HeaderValue::try_from(others.join(", ")).map_err(|_| Refusal::BadToken)?;
        headers.insert(PROTOCOLS, value);
    }
    match found.len() {
        0 => Err(Refusal::NoToken),
        1 if found.iter().all(|token| !token.is_empty()) => Ok(found.remove(0).into()),
        _ => Err(Refusal::BadToken),
    }
}

/// Whether somebody outside tries to say who they are.
pub fn impersonates(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("impersonate-"))
}

/// The protocol that a request (or an answer) wants to change to.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = connection_words(headers).any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wanted).cloned()
}

fn connection_words(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// Removes what concerns one connection only, and what only front may say.
/// `Content-Length` goes too: hyper says the length of what it sends itself.
pub fn clean_request(headers: &mut HeaderMap) {
    clean_hop(headers);
    for name in [AUTHORIZATION, COOKIE, HOST, EXPECT, CONTENT_LENGTH] {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            let prefixes = ["impersonate-", "x-forwarded-", "x-remote-", "x-original-"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
                || matches!(name, "forwarded" | "x-real-ip" | "via" | "x-http-method-override")
        })
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Removes what concerns one connection only.
pub fn clean_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        connection_words(headers).filter_map(|word| HeaderName::try_from(word).ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in
        ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "http2-settings"]
    {
        headers.remove(name);
    }
}

/// Says who the caller is. Everything a caller said about it must be gone.
///
/// # Errors
/// When the name fits no header, which no account's does.
pub fn impersonate(headers: &mut HeaderMap, account: &str, operator: bool) -> Result<(), Refusal> {
    let user = HeaderValue::try_from(api::names::user(account)).map_err(|_| Refusal::BadToken)?;
    headers.insert("impersonate-user", user);
    let group = HeaderName::from_static("impersonate-group");
    headers.insert(group.clone(), HeaderValue::from_static(api::names::ACCOUNTS_GROUP));
    if operator {
        headers.append(group.clone(), HeaderValue::from_static(api::names::OPERATORS_GROUP));
    }
    headers.append(group, HeaderValue::from_static("system:authenticated"));
    Ok(())
}

/// The token in a header, marked so that nothing prints it.
///
/// # Errors
/// When it fits no header.
pub fn bearer(token: &str) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Refusal::BadToken)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[test]
    fn the_token_is_taken_out() {
        let check = |lines: &[(&str, &str)], wanted: Result<&str, Refusal>| {
            let mut headers = headers(lines);
            let found = take_token(&mut headers);
            let found = found.as_ref().map(|token| token.expose_secret());
            assert_eq!(found, wanted.as_ref().map(|token| *token), "{lines:?}");
            if wanted.is_ok() {
                assert!(!headers.contains_key(AUTHORIZATION));
            }
            headers
        };
        let of = |token: &str| format!("{PROTOCOL_TOKEN}{}", URL_SAFE_NO_PAD.encode(token));
        check(&[("Authorization", "Bearer t")], Ok("t"));
        check(&[("authorization", "bearer  t ")], Ok("t"));
        check(&[], Err(Refusal::NoToken));
        check(&[("Authorization", "Basic dDp0")], Err(Refusal::BadToken));
        check(&[("Authorization", "Bearer")], Err(Refusal::BadToken));
        check(&[("Authorization", "Bearer ")], Err(Refusal::BadToken));
        check(&[("Authorization", "Bearer a"), ("Authorization", "Bearer b")], Err(Refusal::BadToken));
        check(&[("Authorization", "Bearer a"), ("Authorization", "Basic b")], Err(Refusal::BadToken));
        let both = format!("v5.channel.k8s.io, {}", of("t"));
        let left = check(&[("Sec-WebSocket-Protocol", &both)], Ok("t"));
        assert_eq!(left.get(PROTOCOLS).unwrap(), "v5.channel.k8s.io");
        let left = check(&[("Sec-WebSocket-Protocol", &of("t"))], Ok("t"));
        assert!(!left.contains_key(PROTOCOLS));
        check(&[("Sec-WebSocket-Protocol", &both), ("Authorization", "Bearer t")], Err(Refusal::BadToken));
        check(&[("Sec-WebSocket-Protocol", &format!("{PROTOCOL_TOKEN}!"))], Err(Refusal::BadToken));
        check(&[("Sec-WebSocket-Protocol", "v5.channel.k8s.io")], Err(Refusal::NoToken));
    }

    #[test]
    fn what_only_front_may_say_is_removed() {
        let mut map = headers(&[
            ("Connection", "close, X-Named, impersonate-user"),
            ("X-Named", "1"),
            ("IMPERSONATE-USER", "system:admin"),
            ("Impersonate-Extra-scopes", "x"),
            ("Impersonate-Uid", "x"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Remote-User", "admin"),
            ("Forwarded", "for=x"),
            ("Cookie", "a=b"),
            ("Host", "x"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "5"),
            ("Keep-Alive", "1"),
            ("Proxy-Authorization", "x"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "x"),
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
            ("User-Agent", "kubectl"),
        ]);
        clean_request(&mut map);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-type", "user-agent"]);
        impersonate(&mut map, "ada", true).unwrap();
        assert_eq!(map.get("impersonate-user").unwrap(), "atoll:ada");
        let groups: Vec<_> = map.get_all("impersonate-group").iter().collect();
        assert_eq!(groups, ["atoll:accounts", "atoll:operators", "system:authenticated"]);
        let mut map = HeaderMap::new();
        impersonate(&mut map, "ada", false).unwrap();
        let groups: Vec<_> = map.get_all("impersonate-group").iter().collect();
        assert_eq!(groups, ["atoll:accounts", "system:authenticated"]);
    }

    #[test]
    fn upgrades_need_both_headers() {
        let check = |lines: &[(&str, &str)], wanted: Option<&str>| {
            let found = upgrade(&headers(lines));
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), wanted, "{lines:?}");
        };
        check(&[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")], Some("SPDY/3.1"));
        check(&[("Connection", "keep-alive, upgrade"), ("Upgrade", "websocket")], Some("websocket"));
        check(&[("Connection", "keep-alive"), ("Upgrade", "websocket")], None);
        check(&[("Connection", "upgrade")], None);
    }

    #[test]
    fn bearers_are_not_printed() {
        assert!(!format!("{:?}", bearer("secret-token").unwrap()).contains("secret"));
    }
}
