//! What an Ingress's annotations do to requests and answers.

use std::collections::HashSet;

use gateway::object::{Id, Object, Users};

use crate::world::{Backend, World, header, websocket};

async fn world(annotations: &[(&str, &str)]) -> (World, Backend) {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", annotations, &[backend.address]);
    (world, backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_need_no_backend() {
    for (annotations, path, wanted, location) in [
        (&[("permanent-redirect", "https://b.test$request_uri")][..], "/x?y", 301, "https://b.test/x?y"),
        (&[("temporal-redirect", "https://b.test/")][..], "/x", 302, "https://b.test/"),
        (&[("app-root", "/app")][..], "/", 302, "/app"),
        (&[("app-root", "/app")][..], "/other", 200, ""),
    ] {
        let (world, backend) = world(annotations).await;
        let (status, answer) = world.get("web.apps.test", path).await;
        assert_eq!((status, header(&answer, "location")), (wanted, location), "{annotations:?}");
        let served = backend.served.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(served, usize::from(wanted == 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_sources_that_are_named_are_let_in() {
    for (annotation, wanted) in [
        (("whitelist-source-range", "10.0.0.0/8"), 403),
        (("whitelist-source-range", "10.0.0.0/8, 127.0.0.1"), 200),
        (("denylist-source-range", "127.0.0.0/8"), 403),
        (("denylist-source-range", "10.0.0.0/8"), 200),
        (("denylist-source-range", "nonsense"), 500),
        (("auth-url", "http://other.b.svc/"), 500),
    ] {
        let (world, backend) = world(&[annotation]).await;
        // What a client claims of itself is nothing.
        let (status, answer) = world.ask("web.apps.test", "/", "X-Forwarded-For: 10.0.0.1\r\n").await;
        assert_eq!(status, wanted, "{annotation:?}: {answer}");
        let served = backend.served.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(served, usize::from(wanted == 200), "{annotation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snippets_change_the_headers_of_answers() {
    let snippet = r#"
        more_clear_headers "X-Frame-Options:";
        more_set_headers "Content-Security-Policy: frame-ancestors https://desk.test";
        if ($request_uri ~* \.(js|css|gif|jpe?g|png)) { expires 30d; add_header Cache-Control "public"; }
        return 418;
    "#;
    let (world, _backend) = world(&[("configuration-snippet", snippet)]).await;
    let (status, page) = world.get("web.apps.test", "/page").await;
    assert_eq!((status, header(&page, "x-frame-options")), (200, ""), "{page}");
    assert_eq!(header(&page, "content-security-policy"), "frame-ancestors https://desk.test");
    assert_eq!(header(&page, "cache-control"), "");
    let (_, script) = world.get("web.apps.test", "/a/b.js?v=1").await;
    assert_eq!(header(&script, "cache-control"), "max-age=2592000", "{script}");
    assert!(script.to_lowercase().contains("cache-control: public\r\n"), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_is_told_another_host_and_headers_of_the_ingress() {
    let annotations = [
        ("upstream-vhost", "inner.test"),
        ("x-forwarded-prefix", "/base"),
        ("configuration-snippet", "proxy_set_header X-Own yes; proxy_set_header Host $host;"),
    ];
    let (world, _backend) = world(&annotations).await;
    let (_, answer) = world.get("web.apps.test", "/").await;
    for line in ["host=inner.test", "x-forwarded-prefix=/base", "x-own=yes", "x-forwarded-host=web.apps.test"]
    {
        assert!(answer.lines().any(|other| other == line), "{line} in {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_over_all_endpoints() {
    const EACH: usize = 30;
    let names: [&'static str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut backends = Vec::new();
    for name in names {
        backends.push(Backend::start(name).await);
    }
    let mut world = World::start().await;
    let all: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    world.app("web", "web.apps.test", &[], &all);
    let mut seen = std::collections::HashMap::new();
    for _ in 0..EACH * names.len() {
        let (_, answer) = world.get("web.apps.test", "/").await;
        let name = answer.lines().find_map(|line| line.strip_prefix("backend=")).unwrap().to_owned();
        *seen.entry(name).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), names.len());
    assert!(seen.values().all(|count| *count > EACH / 3), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_the_endpoint_that_its_cookie_names() {
    let backends = [Backend::start("one").await, Backend::start("two").await];
    let mut world = World::start().await;
    let all = backends.each_ref().map(|backend| backend.address);
    world.app("web", "web.apps.test", &[("affinity", "cookie"), ("session-cookie-name", "stay")], &all);
    let name =
        |answer: &str| answer.lines().find_map(|line| line.strip_prefix("backend=")).unwrap().to_owned();
    let mut seen = HashSet::new();
    for _ in 0..4 {
        let (_, first) = world.get("web.apps.test", "/").await;
        seen.insert(name(&first));
        let cookie = header(&first, "set-cookie");
        assert!(cookie.starts_with("stay=") && cookie.ends_with("; Path=/; HttpOnly"), "{first}");
        let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
        for _ in 0..6 {
            let (_, next) = world.ask("web.apps.test", "/", &cookie).await;
            assert_eq!((name(&next), header(&next, "set-cookie")), (name(&first), ""), "{next}");
        }
    }
    assert_eq!(seen.len(), 2, "clients without a cookie are spread");
    // The endpoint goes: another one, and its cookie.
    let (_, first) = world.get("web.apps.test", "/").await;
    let gone = name(&first);
    let rest: Vec<_> =
        all.into_iter().filter(|address| (*address == backends[0].address) != (gone == "one")).collect();
    world.endpoints("web", &rest);
    let cookie = format!("Cookie: {}\r\n", header(&first, "set-cookie").split(';').next().unwrap());
    let (status, next) = world.ask("web.apps.test", "/", &cookie).await;
    assert_eq!(status, 200);
    assert_ne!(name(&next), gone);
    assert_ne!(header(&next, "set-cookie"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_logs_in_is_let_in() {
    let (mut world, backend) = world(&[("auth-type", "basic"), ("auth-secret", "users")]).await;
    let served = || backend.served.load(std::sync::atomic::Ordering::SeqCst);
    // ada:secret
    let login = "Authorization: Basic YWRhOnNlY3JldA==\r\n";
    assert_eq!(world.ask("web.apps.test", "/", login).await.0, 500, "the users are not known yet");
    let data = [("auth".to_owned(), b"ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n".to_vec())].into();
    world.index.apply(Object::Users(Users { id: Id::new("a", "users"), data: Some(data) }));
    for headers in ["", "Authorization: Basic YWRhOndyb25n\r\n", "Authorization: Bearer YWRhOnNlY3JldA==\r\n"]
    {
        let (status, answer) = world.ask("web.apps.test", "/", headers).await;
        assert_eq!(
            (status, header(&answer, "www-authenticate")),
            (401, "Basic realm=\"Authentication Required\"")
        );
    }
    assert_eq!(served(), 0);
    assert_eq!(world.ask("web.apps.test", "/", login).await.0, 200);
    assert_eq!(served(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_app_s_own_service_knows_is_let_in() {
    let port = 80;
    let url = format!("http://auth.a.svc:{port}/check");
    let annotations = [("auth-url", url.as_str()), ("auth-response-headers", "X-User, X-Mail")];
    let (mut world, backend) = world(&annotations).await;
    let served = || backend.served.load(std::sync::atomic::Ordering::SeqCst);
    let known = "Authorization: let me in\r\nX-User: root\r\nX-Mail: root\r\n";
    let (status, answer) = world.ask("web.apps.test", "/", known).await;
    assert_eq!(status, 502, "nobody can be asked: {answer}");
    let auth = Backend::start("auth").await;
    world.app("auth", "auth.apps.test", &[], &[auth.address]);
    let (status, answer) = world.ask("web.apps.test", "/x?y", "X-User: root\r\n").await;
    assert_eq!((status, header(&answer, "www-authenticate")), (401, "Ours"), "{answer}");
    assert_eq!(served(), 0);
    let (status, answer) = world.ask("web.apps.test", "/x?y", known).await;
    assert_eq!(status, 200, "{answer}");
    // What the service was asked comes back by the header that is passed on.
    assert!(answer.contains("x-user=GET http://web.apps.test/x?y 127.0.0.1\n"), "{answer}");
    assert_eq!(answer.matches("x-user=").count(), 1, "{answer}");
    assert!(!answer.contains("x-mail="), "it has said nothing of that: {answer}");
    world.app(
        "web",
        "web.apps.test",
        &[annotations[0], ("auth-signin", "https://in.test/")],
        &[backend.address],
    );
    let (status, answer) = world.get("web.apps.test", "/x?y").await;
    let back = "https://in.test/?rd=http://web.apps.test%2Fx%3Fy";
    assert_eq!((status, header(&answer, "location")), (302, back));
    world.endpoints("auth", &[]);
    assert_eq!(world.ask("web.apps.test", "/", known).await.0, 502);
    assert_eq!(served(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_gets_no_more_than_an_ingress_serves_it() {
    let (world, backend) = world(&[("limit-rpm", "1"), ("limit-burst-multiplier", "3")]).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        let (status, answer) = world.get("web.apps.test", "/").await;
        assert_eq!(status == 429, !header(&answer, "retry-after").is_empty(), "{answer}");
        statuses.push(status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429, 429, 429]);
    assert_eq!(backend.served.load(std::sync::atomic::Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_no_more_open_than_it_may() {
    let (world, _backend) = world(&[("limit-connections", "1")]).await;
    let (status, open) = websocket(world.http(), "web.apps.test").await;
    assert_eq!(status, 101);
    assert_eq!(world.get("web.apps.test", "/").await.0, 429);
    drop(open);
    // The gateway hears of it when it does.
    while world.get("web.apps.test", "/").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_s_tls_is_believed_or_verified_as_it_is_asked_for() {
    let backend = Backend::start_tls("inner.test").await;
    let mut world = World::start().await;
    let https = ("backend-protocol", "HTTPS");
    for (annotations, wanted, saying) in [
        (&[https][..], 200, "backend=inner.test"),
        (
            &[https, ("proxy-ssl-server-name", "on"), ("proxy-ssl-name", "inner.test")][..],
            200,
            "backend=inner.test",
        ),
        (&[https, ("proxy-ssl-verify", "on")][..], 502, "no BackendTLSPolicy says how"),
        // The backend doesn't understand clear text.
        (&[][..], 502, "is not reachable"),
    ] {
        world.app("web", "web.apps.test", annotations, &[backend.address]);
        let (status, answer) = world.get("web.apps.test", "/").await;
        assert_eq!(status, wanted, "{annotations:?}: {answer}");
        assert!(answer.contains(saying), "{annotations:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_are_answered_as_the_ingress_says() {
    let annotations = [("enable-cors", "true"), ("cors-allow-origin", "https://a.test")];
    let (world, _backend) = world(&annotations).await;
    let (_, answer) = world.ask("web.apps.test", "/", "Origin: https://a.test\r\n").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), "https://a.test", "{answer}");
    assert_eq!(header(&answer, "access-control-allow-credentials"), "true");
    let (_, answer) = world.ask("web.apps.test", "/", "Origin: https://b.test\r\n").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), "", "{answer}");
}
