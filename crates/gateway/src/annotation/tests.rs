//! Annotations in, settings and notes out.

use http::{HeaderMap, Method};

use super::*;
use crate::retry::Failures;
use crate::route::{Request, View};

fn read(annotations: &[(&str, &str)]) -> Annotations {
    let all = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    super::read(&all)
}

/// As [`read`], where nothing is to be told.
fn good(annotations: &[(&str, &str)]) -> Annotations {
    let out = read(annotations);
    assert_eq!(out.notes, [""; 0], "{annotations:?}");
    out
}

/// The one note, which begins with the annotation's name and says this.
fn note(annotation: (&str, &str), saying: &str) -> Annotations {
    let out = read(&[annotation]);
    assert_eq!(out.notes.len(), 1, "{annotation:?}: {:?}", out.notes);
    let note = &out.notes[0];
    assert!(note.starts_with(&format!("annotation {}: ", annotation.0)), "{note}");
    assert!(note.contains(saying), "{note}");
    out
}

#[test]
fn what_app_templates_carry_is_all_understood() {
    let out = good(&[
        ("backend-protocol", "HTTP"),
        ("client-body-buffer-size", "64k"),
        ("proxy-body-size", "32m"),
        ("proxy-buffer-size", "64k"),
        ("proxy-connect-timeout", "300"),
        ("proxy-read-timeout", "300"),
        ("proxy-send-timeout", "300"),
        ("rewrite-target", "/$2"),
        ("server-snippet", "client_header_buffer_size 64k;\nlarge_client_header_buffers 4 128k;\n"),
        ("ssl-redirect", "true"),
    ]);
    assert_eq!(out.limits.body, Some(32 << 20));
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let limits = [out.limits.connect, out.limits.read, out.limits.send].map(seconds);
    assert_eq!(limits, [Some(300); 3]);
    assert_eq!((out.rewrite.as_deref(), out.https, out.force_https), (Some("/$2"), true, false));
    assert!(out.extra.is_empty() && out.refused.is_none());
}

#[test]
fn a_value_that_can_t_be_read_costs_itself() {
    let out = read(&[
        ("proxy-body-size", "much"),
        ("proxy-read-timeout", "0"),
        ("proxy-send-timeout", "60s"),
        ("ssl-redirect", "maybe"),
    ]);
    assert_eq!(
        out.notes,
        [
            "annotation ssl-redirect: \"maybe\" is not true or false; it is ignored",
            "annotation proxy-body-size: \"much\" is not a size, such as 8m or 1g; it is ignored",
            "annotation proxy-read-timeout: \"0\" is not a time to wait, such as 60 or 60s; it is ignored",
        ]
    );
    assert_eq!((out.limits.body, out.limits.read, out.https), (None, None, true));
    assert_eq!(out.limits.send, Some(Duration::from_secs(60)));
    assert_eq!(good(&[("proxy-body-size", "0")]).limits.body, None);
}

#[test]
fn what_is_not_known_is_told_with_a_remedy() {
    note(("proxy-cookie-path", "/ /x"), "remove it, or see docs/gateway.md");
    note(("custom-headers", "a/b"), "use an HTTPRoute with a ResponseHeaderModifier");
    note(("client_max_body_size", "8m"), "use proxy-body-size");
    assert!(note(("canary", "true"), "use an HTTPRoute with two backends").canary);
    assert_eq!(read(&[("canary", "true"), ("canary-weight", "10")]).notes.len(), 1);
}

#[test]
fn backends_are_spoken_to_as_they_are_asked_for() {
    let tls = |out: &Annotations| match &out.extra.backend_tls {
        None => "none",
        Some(BackendSecurity::Unverified(_)) => "unverified",
        Some(BackendSecurity::ByPolicy) => "by policy",
    };
    let check = |protocol: &str, grpc: bool, wanted: &str| {
        let out = good(&[("backend-protocol", protocol)]);
        assert_eq!((out.grpc, tls(&out)), (grpc, wanted), "{protocol}");
    };
    check("HTTP", false, "none");
    check("ws", false, "none");
    check("HTTPS", false, "unverified");
    check("GRPC", true, "none");
    check("grpcs", true, "unverified");
    note(("backend-protocol", "FCGI"), "HTTP is used");
    let verified = read(&[("backend-protocol", "HTTPS"), ("proxy-ssl-verify", "on")]);
    assert_eq!((tls(&verified), verified.notes.len()), ("by policy", 1));
    assert_eq!(tls(&read(&[("backend-protocol", "HTTPS"), ("proxy-ssl-verify", "perhaps")])), "by policy");
    assert_eq!(tls(&good(&[("backend-protocol", "HTTPS"), ("proxy-ssl-verify", "off")])), "unverified");
    let named =
        [("backend-protocol", "HTTPS"), ("proxy-ssl-name", "no name"), ("proxy-ssl-server-name", "on")];
    assert_eq!(tls(&read(&named)), "by policy");
    assert_eq!(good(&[("upstream-vhost", "a.example:80")]).host.as_deref(), Some("a.example:80"));
    assert_eq!(note(("upstream-vhost", "$host\r\nx: y"), "is not a host").host, None);
}

#[test]
fn redirects_are_for_now_before_they_are_for_ever() {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let view = View::shared(true);
    let (method, headers) = (&method, &headers);
    let request = Request { host: "a", path: "/x", query: Some("q"), method, headers, secure: true, view };
    let check = |annotations: &[(&str, &str)], wanted: &str| {
        let out = good(annotations);
        let redirect =
            out.extra.redirect.map(|to| format!("{} {}", to.status, to.location.fill(&request, "a")));
        assert_eq!(redirect.unwrap_or_default(), wanted, "{annotations:?}");
    };
    check(&[], "");
    let (now, ever) = (("temporal-redirect", "https://b/"), ("permanent-redirect", "https://c$request_uri"));
    check(&[now], "302 https://b/");
    check(&[ever], "301 https://c/x?q");
    check(&[ever, ("permanent-redirect-code", "308")], "308 https://c/x?q");
    check(&[now, ever], "302 https://b/");
    check(&[now, ("temporal-redirect-code", "307")], "307 https://b/");
    note(("permanent-redirect", "c"), "begins neither with");
    note(("permanent-redirect-code", "200"), "is not a status from 300 to 308");
    assert!(good(&[("app-root", "/app")]).app_root.is_some());
}

#[test]
fn cors_has_nginx_s_defaults_but_no_credentials_for_everybody() {
    assert!(good(&[("cors-allow-origin", "*")]).cors.is_none());
    let cors = good(&[("enable-cors", "true")]).cors.unwrap();
    assert_eq!((cors.origins, cors.credentials, cors.max_age), (vec!["*".to_owned()], false, 1_728_000));
    assert!(cors.methods.iter().any(|method| method == "PATCH"));
    let all = [
        ("enable-cors", "true"),
        ("cors-allow-origin", "https://a.test, https://*.b.test"),
        ("cors-allow-methods", "GET"),
        ("cors-allow-headers", "x-a, x-b"),
        ("cors-expose-headers", "x-c"),
        ("cors-max-age", "5"),
    ];
    let cors = good(&all).cors.unwrap();
    assert_eq!(cors.origins, ["https://a.test", "https://*.b.test"]);
    assert_eq!((cors.credentials, cors.max_age, cors.headers.len(), cors.expose.len()), (true, 5, 2, 1));
    let out = read(&[("enable-cors", "true"), ("cors-allow-origin", "a.test")]);
    assert!(out.notes[0].contains("is not an origin"), "{:?}", out.notes);
    assert_eq!(out.cors.unwrap().origins, [""; 0]);
}

#[test]
fn source_ranges_that_can_t_be_read_let_nobody_in() {
    let admits = |out: &Annotations, address: &str| {
        out.refused.is_none()
            && out.extra.sources.as_ref().is_none_or(|sources| sources.admit(address.parse().unwrap()))
    };
    let range = good(&[("whitelist-source-range", "10.0.0.0/8, 1.2.3.4")]);
    assert_eq!(
        ["10.1.1.1", "1.2.3.4", "1.2.3.5"].map(|address| admits(&range, address)),
        [true, true, false]
    );
    let some = note(("whitelist-source-range", "10.0.0.0/8,office"), "only the others are let in");
    assert_eq!(["10.1.1.1", "1.2.3.4"].map(|address| admits(&some, address)), [true, false]);
    assert!(!admits(&note(("allowlist-source-range", "office"), "only the others"), "10.1.1.1"));
    let denied = good(&[("denylist-source-range", "10.0.0.0/8")]);
    assert_eq!(["10.1.1.1", "1.2.3.4"].map(|address| admits(&denied, address)), [false, true]);
    assert!(!admits(&note(("denylist-source-range", "10.0.0.0/8,x"), "nobody is let in"), "1.2.3.4"));
    assert!(good(&[("whitelist-source-range", "")]).extra.sources.is_none());
}

#[test]
fn authentication_that_is_not_served_lets_nobody_in() {
    assert!(note(("auth-type", "digest"), "nobody is let in").refused.is_some());
    // Certificates, and nobody says whose.
    assert!(read(&[("auth-tls-verify-client", "on")]).refused.is_some());
    assert!(good(&[("auth-tls-verify-client", "off")]).refused.is_none());
    let secret = ("auth-tls-secret", "a/ca");
    for bad in
        [("auth-tls-verify-client", "perhaps"), ("auth-tls-verify-depth", "deep"), ("auth-tls-match-cn", "(")]
    {
        let out = read(&[secret, bad]);
        assert!(out.refused.is_some() && out.guard.is_none() && out.extra.guard.is_some(), "{bad:?}");
        assert!(out.notes.iter().any(|note| note.contains(bad.0)), "{bad:?}: {:?}", out.notes);
    }
}

#[test]
fn client_certificates_are_asked_for_as_it_is_written() {
    let secret = ("auth-tls-secret", "a/ca");
    let plain = good(&[secret]).guard.unwrap();
    assert_eq!(
        (plain.secret.as_str(), plain.mode, plain.depth, plain.pass),
        ("a/ca", Mode::Requests, 1, false)
    );
    let check = |word: &str, wanted: Option<Mode>| {
        let out = good(&[secret, ("auth-tls-verify-client", word)]);
        assert_eq!(out.guard.map(|guard| guard.mode), wanted, "{word}");
        assert!(out.extra.guard.is_none());
    };
    check("on", Some(Mode::Requests));
    check("optional", Some(Mode::Optional));
    check("optional_no_ca", Some(Mode::AnyAuthority));
    check("off", None);
    let all = good(&[
        secret,
        ("auth-tls-verify-depth", "3"),
        ("auth-tls-pass-certificate-to-upstream", "true"),
        ("auth-tls-error-page", "https://a.example/why"),
        ("auth-tls-match-cn", "CN=(a|b)"),
    ]);
    let guard = all.guard.unwrap();
    assert_eq!((guard.depth, guard.pass), (3, true));
    assert!(guard.error_page.is_some() && guard.subject.is_some());
}

#[test]
fn a_login_names_its_users() {
    let login = good(&[("auth-type", "basic"), ("auth-secret", "users")]).login.unwrap();
    let challenge = "Basic realm=\"Authentication Required\"";
    assert_eq!(
        (login.secret.as_str(), login.map, login.challenge.to_str().unwrap()),
        ("users", false, challenge)
    );
    let (basic, secret) = (("auth-type", "basic"), ("auth-secret", "users"));
    let all = [basic, secret, ("auth-secret-type", "auth-map"), ("auth-realm", "the shop")];
    let login = good(&all).login.unwrap();
    assert_eq!((login.map, login.challenge.to_str().unwrap()), (true, "Basic realm=\"the shop\""));
    for bad in [
        &[basic][..],
        &[basic, ("auth-secret", "")][..],
        &[basic, secret, ("auth-secret-type", "other")][..],
        &[basic, secret, ("auth-realm", "a\"b")][..],
        &[basic, secret, ("auth-tls-verify-client", "on")][..],
    ] {
        let out = read(bad);
        assert!(out.refused.is_some() && out.notes.len() == 1, "{bad:?}: {:?}", out.notes);
    }
    // Alone they mean nothing.
    assert!(read(&[secret]).login.is_none());
}

#[test]
fn a_service_of_the_cluster_may_be_asked_who_passes() {
    let check = |url: &str, wanted: &str| {
        let shown = good(&[("auth-url", url)]).check.map(|check| {
            format!("{}/{}:{} {} {}", check.namespace, check.service, check.port, check.host, check.path)
        });
        assert_eq!(shown.unwrap(), wanted, "{url}");
    };
    check(
        "http://auth.a.svc.cluster.local:4180/oauth2/auth?x=y",
        "a/auth:4180 auth.a.svc.cluster.local:4180 /oauth2/auth?x=y",
    );
    check("http://auth.a.svc", "a/auth:80 auth.a.svc /");
    check("http://auth.a/", "a/auth:80 auth.a /");
    for url in [
        "https://auth.a.svc/",
        "http://auth/",
        "http://auth.a.example.com/",
        "http://169.254.169.254/",
        "http://user@auth.a.svc/",
        "http://auth.a.svc/$request_uri",
        "https://$host/oauth2/auth",
        "auth.a.svc",
    ] {
        let out = note(("auth-url", url), "nobody is let in; name a Service of the Ingress' own namespace");
        assert!(out.refused.is_some() && out.check.is_none(), "{url}");
    }
    let url = ("auth-url", "http://auth.a.svc/");
    let out = good(&[
        url,
        ("auth-response-headers", "X-User, x-mail"),
        ("auth-signin", "https://b/in"),
        ("auth-method", "HEAD"),
    ]);
    let asked = out.check.unwrap();
    assert_eq!((asked.pass.len(), asked.method), (2, Method::HEAD));
    assert_eq!(asked.signin, Location::parse("https://b/in?rd=$scheme://$host$escaped_request_uri").ok());
    assert!(read(&[url, ("auth-method", "POST")]).refused.is_some());
    assert_eq!(read(&[url, ("auth-response-headers", "Host")]).check.unwrap().pass.len(), 0);
}

#[test]
fn clients_are_limited_as_nginx_counts() {
    let limits = good(&[
        ("limit-rps", "10"),
        ("limit-rpm", "60"),
        ("limit-connections", "3"),
        ("limit-burst-multiplier", "2"),
        ("limit-whitelist", "10.0.0.0/8"),
    ]);
    let limits = limits.extra.clients.unwrap();
    assert_eq!(limits.per_second, Rate::new(10, Duration::from_secs(1), 21));
    assert_eq!(limits.per_minute, Rate::new(60, Duration::from_secs(60), 121));
    assert_eq!((limits.open, limits.exempt.len()), (Some(3), 1));
    assert!(good(&[("limit-rps", "0")]).extra.clients.is_none());
    assert!(note(("limit-rps", "-1"), "is not a number").extra.clients.is_none());
}

#[test]
fn requests_are_sent_again_as_nginx_reads_it() {
    let retry = |annotations: &[(&str, &str)]| good(annotations).retry;
    assert_eq!(retry(&[]), None);
    let on = |error, timeout, invalid| Failures { error, timeout, invalid };
    let usual = Retry { on: on(true, true, false), attempts: 2, only: true, ..Retry::default() };
    assert_eq!(retry(&[("proxy-next-upstream", "error timeout")]), Some(usual.clone()));
    let all = "error timeout invalid_header http_500 http_502 http_503 http_504 http_403 http_404 http_429 non_idempotent";
    let codes = vec![500, 502, 503, 504, 403, 404, 429];
    let full = Retry { on: on(true, true, true), codes, any_method: true, ..usual.clone() };
    assert_eq!(retry(&[("proxy-next-upstream", all)]), Some(full));
    let off = Retry { attempts: 2, only: true, ..Retry::default() };
    assert_eq!(retry(&[("proxy-next-upstream", "off")]), Some(off.clone()));
    assert_eq!(retry(&[("proxy-next-upstream", "error off non_idempotent")]), Some(off));
    // What isn't said is as nginx has it.
    let tries = |text| retry(&[("proxy-next-upstream-tries", text)]).map(|retry| retry.attempts);
    assert_eq!([tries("1"), tries("4"), tries("11"), tries("0")], [0, 3, 10, 10].map(Some));
    assert_eq!(retry(&[("proxy-next-upstream-tries", "3")]), Some(usual.clone()));
    let within = |text| retry(&[("proxy-next-upstream-timeout", text)]);
    assert_eq!(within("5"), Some(Retry { within: Some(Duration::from_secs(5)), ..usual.clone() }));
    assert_eq!(within("0"), Some(usual.clone()));
    // What can't be read costs itself.
    assert_eq!(note(("proxy-next-upstream", "sometimes"), "\"sometimes\" is not error").retry, None);
    let wanted = Retry { codes: vec![503], ..Retry { on: Failures::default(), ..usual.clone() } };
    assert_eq!(note(("proxy-next-upstream", "http_503 http_418"), "\"http_418\" is not").retry, Some(wanted));
    assert_eq!(note(("proxy-next-upstream-tries", "-1"), "is not a number").retry, None);
    assert_eq!(note(("proxy-next-upstream-tries", "many"), "is not a number").retry, None);
    assert_eq!(note(("proxy-next-upstream-timeout", "soon"), "is not a time").retry, None);
    let most = note(("proxy-next-upstream-tries", "100"), "100 are more than 11");
    assert_eq!(most.retry, Some(Retry { attempts: 10, ..usual }));
}

#[test]
fn affinity_takes_its_cookie_s_settings() {
    assert!(good(&[("session-cookie-name", "x")]).extra.affinity.is_none());
    let plain = good(&[("affinity", "cookie")]).extra.affinity.unwrap();
    assert_eq!(plain, Affinity { cookie: "INGRESSCOOKIE".into(), ..Affinity::default() });
    let full = good(&[
        ("affinity", "cookie"),
        ("affinity-mode", "persistent"),
        ("session-cookie-name", "stay"),
        ("session-cookie-path", "/p"),
        ("session-cookie-domain", "a.example"),
        ("session-cookie-expires", "5"),
        ("session-cookie-max-age", "60"),
        ("session-cookie-secure", "true"),
        ("session-cookie-samesite", "lax"),
        ("session-cookie-change-on-failure", "true"),
    ]);
    let wanted = Affinity {
        cookie: "stay".into(),
        path: Some("/p".into()),
        domain: Some("a.example".into()),
        max_age: Some(60),
        secure: true,
        same_site: Some("Lax"),
        change_on_failure: true,
    };
    assert_eq!(full.extra.affinity.unwrap(), wanted);
    note(("affinity", "ip"), "is not cookie");
    note(("session-cookie-name", "a;b"), "is not a cookie's name");
    note(("session-cookie-path", "/; Domain=evil"), "is not a path");
}

#[test]
fn snippets_of_both_places_are_read() {
    let out = read(&[
        ("configuration-snippet", "more_set_headers 'A: b'; rewrite ^ /x;"),
        ("server-snippet", "client_max_body_size 1k; listen 9;"),
    ]);
    assert_eq!((out.extra.responses.len(), out.limits.body), (1, Some(1024)));
    assert_eq!(out.notes.len(), 2);
    assert!(out.notes[0].starts_with("annotation server-snippet: listen: "), "{:?}", out.notes);
}
