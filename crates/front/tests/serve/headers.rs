//! Who gets in, and what the API server is told of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http_body_util::Full;
use identity::key::{Keyring, SigningKey};
use identity::revocation::Revocations;

use crate::world::{ISSUER, Proof, World, get, read};

#[tokio::test]
async fn an_account_goes_on_under_its_own_name() {
    let world = World::new().await;
    let ada = world.account("ada");
    let (status, _) = world.get("/api/v1/namespaces/a/pods?limit=5", &ada).await;
    assert_eq!(status, 200);
    let seen = world.seen().remove(0);
    assert_eq!(seen.target, "/api/v1/namespaces/a/pods?limit=5");
    assert_eq!(seen.all("impersonate-user"), ["atoll:ada"]);
    assert_eq!(seen.all("impersonate-group"), ["atoll:accounts", "system:authenticated"]);
    assert_eq!(seen.all("authorization"), ["Bearer front-1"]);
    assert_eq!(seen.all("accept"), ["application/json"]);

    let root = world.operator("root");
    world.get("/api/v1/nodes", &root).await;
    let seen = world.seen().remove(0);
    assert_eq!(seen.all("impersonate-group"), ["atoll:accounts", "atoll:operators", "system:authenticated"]);
    let (status, _) = world.get("/teapot", &ada).await;
    assert_eq!(status, 418, "the API server's answers are its own");
}

#[tokio::test]
async fn who_is_not_known_gets_in_nowhere() {
    let world = World::new().await;
    let ada = world.account("ada");
    let bob = world.account("bob");
    world.index.lock().unwrap().set_account("bob", false, true);
    let (eve, _) = world.token("eve");
    let strange = SigningKey::generate().unwrap();
    let (forged, _) = identity::token::issue(
        &strange,
        "ada",
        identity::token::Kind::Access,
        identity::token::AUDIENCE,
        identity::now(),
        60_000,
    )
    .unwrap();
    let forged = identity::ExposeSecret::expose_secret(&forged).to_owned();
    let (expired, _) = identity::token::issue(
        &world.key,
        "ada",
        identity::token::Kind::Access,
        identity::token::AUDIENCE,
        identity::now() - 10_000,
        5_000,
    )
    .unwrap();
    let expired = identity::ExposeSecret::expose_secret(&expired).to_owned();
    for (token, wanted) in [
        (bob.as_str(), "the account bob is disabled"),
        (&eve, "the account eve doesn't exist any more"),
        (&forged, "the token is not valid"),
        (&expired, "the token has expired"),
        (&format!("{ada}x"), "the token is not valid"),
        ("anything", "the token is not valid"),
    ] {
        let (status, answer) = world.get("/api/v1/namespaces/a/pods", token).await;
        assert_eq!((status, &answer["reason"]), (401, &"Unauthorized".into()), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(wanted), "{answer}");
    }
    let anonymous = Request::builder().uri("/api").header("host", "x").body(Full::default()).unwrap();
    let (status, answer) = read(world.send(anonymous).await).await;
    assert_eq!(status, 401);
    assert!(answer["message"].as_str().unwrap().contains("no token was sent"), "{answer}");
    assert!(world.seen().is_empty(), "none of it reached the API server");
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_the_next_request() {
    let world = World::new().await;
    world.account("ada");
    let (token, claims) = world.token("ada");
    assert_eq!(world.get("/version", &token).await.0, 200);
    let mut revocations = Revocations::default();
    revocations.revoke_token(&claims.id, claims.expires).unwrap();
    world.verifier.set_revocations(revocations);
    let (status, answer) = world.get("/version", &token).await;
    assert_eq!(status, 401);
    assert!(answer["message"].as_str().unwrap().contains("revoked"), "{answer}");
    assert_eq!(
        world.get("/version", &world.token("ada").0).await.0,
        200,
        "another token of the same account"
    );
    world.verifier.set_keys(Keyring::default());
    assert_eq!(world.get("/version", &world.token("ada").0).await.0, 401);
}

#[tokio::test]
async fn nobody_says_who_they_are_but_front() {
    let world = World::new().await;
    let ada = world.account("ada");
    for odd in [
        "Impersonate-User: system:admin",
        "impersonate-USER: x",
        "IMPERSONATE-GROUP: system:masters",
        "Impersonate-Extra-Scopes: x",
        "Impersonate-Uid: 1",
    ] {
        let text = format!(
            "GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\n{odd}\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw(&text).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{odd}: {answer}");
    }
    assert!(world.seen().is_empty());
    // Names that front would have to make up its mind about are dropped.
    let text = format!(
        "GET /version HTTP/1.1\r\nHost: evil\r\nAuthorization: Bearer {ada}\r\n\
         Connection: close, authorization, x-other\r\nX-Other: 1\r\nX-Remote-User: admin\r\n\
         X-Forwarded-For: 1.1.1.1\r\nCookie: a=b\r\nProxy-Authorization: Basic x\r\n\r\n"
    );
    let answer = world.raw(&text).await.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = world.seen().remove(0);
    assert_eq!(seen.all("authorization"), ["Bearer front-1"]);
    assert_eq!(seen.all("impersonate-user"), ["atoll:ada"]);
    for gone in ["x-other", "x-remote-user", "x-forwarded-for", "cookie", "proxy-authorization"] {
        assert!(seen.all(gone).is_empty(), "{gone}");
    }
    assert_ne!(seen.all("host"), ["evil"]);
}

#[tokio::test]
async fn ambiguous_tokens_are_refused() {
    let world = World::new().await;
    let ada = world.account("ada");
    let bob = world.account("bob");
    for two in [
        format!("Authorization: Bearer {ada}\r\nAuthorization: Bearer {bob}"),
        format!("Authorization: Bearer {ada}\r\nauthorization: Basic eDp5"),
        format!("Authorization: Bearer {ada}, Bearer {bob}"),
        "Authorization: Basic eDp5".to_owned(),
    ] {
        let text = format!("GET /version HTTP/1.1\r\nHost: x\r\n{two}\r\nConnection: close\r\n\r\n");
        let answer = world.raw(&text).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{two}: {answer}");
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn one_request_stays_one_request() {
    let world = World::new().await;
    let ada = world.account("ada");
    // Whoever believes Content-Length finds a second request in the body.
    let inner = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nConnection: close\r\n");
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", inner.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", inner.len()),
        "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
    ] {
        let answer = world.raw(&format!("{head}{framing}\r\n{inner}")).await.rest().await;
        assert!(!answer.contains("smuggled"), "{framing}: {answer}");
    }
    for seen in world.seen() {
        assert_eq!(seen.target, "/echo");
        assert!(seen.body.is_empty(), "{seen:?}");
    }
    let body = Request::builder()
        .method("POST")
        .uri("/echo")
        .header("host", "x")
        .header("authorization", format!("Bearer {ada}"))
        .body(Full::from("the body"))
        .unwrap();
    assert_eq!(read(world.send(body).await).await, (200, "the body".into()));
}

#[tokio::test]
async fn unclear_paths_and_methods_are_refused() {
    let world = World::new().await;
    let ada = world.account("ada");
    for path in [
        "/api/v1//namespaces",
        "/api/v1/namespaces/a/../b/pods",
        "/api/v1/namespaces/%2e%2e/pods",
        "/api/v1/namespaces%2Fa",
        "http://x//api/v1/pods",
    ] {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw(&text).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"Status\""), "{path}: {answer}");
    }
    for method in ["TRACE", "CONNECT"] {
        let path = if method == "CONNECT" { "evil:443" } else { "/api" };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw(&text).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{method}: {answer}");
    }
    let long = format!("GET /api HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let answer = world.raw(&long).await.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn http2_clients_are_served_alike() {
    let world = World::new().await;
    let ada = world.account("ada");
    let request = |extra: &str| {
        let mut request = get("https://localhost/version", &ada);
        request.headers_mut().remove("host");
        if !extra.is_empty() {
            request
                .headers_mut()
                .insert(http::HeaderName::try_from(extra).unwrap(), "system:admin".parse().unwrap());
        }
        request
    };
    assert_eq!(world.send_h2(request("")).await.unwrap().status(), 200);
    let seen = world.seen().remove(0);
    assert_eq!(seen.all("impersonate-user"), ["atoll:ada"]);
    assert_eq!(seen.target, "/version");
    assert_eq!(world.send_h2(request("impersonate-user")).await.unwrap().status(), 403);
    // A host of its own in the pseudo header changes nothing upstream.
    let mut other = request("");
    *other.uri_mut() = "https://evil/version".parse().unwrap();
    assert_eq!(world.send_h2(other).await.unwrap().status(), 200);
    assert!(world.seen().remove(0).all("host")[0].starts_with("127.0.0.1:"));
    // What belongs to one HTTP/1 connection has no place in HTTP/2.
    let mut hop = request("");
    hop.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    if let Ok(answer) = world.send_h2(hop).await {
        assert!(answer.status() == 200 || answer.status() == 400);
    }
    assert!(world.seen().iter().all(|seen| seen.all("transfer-encoding").is_empty()));
}

fn pod(issuer: &str, subject: &str) -> String {
    let payload = format!(r#"{{"iss":"{issuer}","sub":"{subject}"}}"#);
    format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

#[tokio::test]
async fn a_pods_token_goes_on_as_it_is_and_without_fronts_own_proof() {
    for proof in [Proof::Token, Proof::Certificate] {
        let world = World::with(Default::default(), proof).await;
        let token = pod(ISSUER, "system:serviceaccount:a:default");
        assert_eq!(world.get("/api/v1/namespaces", &token).await.0, 200);
        let seen = world.seen().remove(0);
        assert_eq!(seen.all("authorization"), [format!("Bearer {token}")]);
        assert!(seen.all("impersonate-user").is_empty() && seen.all("impersonate-group").is_empty());
        assert!(!seen.certificate, "front's certificate would count for more than the token");
        let ada = world.account("ada");
        world.get("/version", &ada).await;
        let seen = world.seen().remove(0);
        assert_eq!(seen.certificate, proof == Proof::Certificate);
        assert_eq!(seen.all("authorization").is_empty(), proof == Proof::Certificate);
        for other in [pod("https://evil", "system:serviceaccount:a:default"), pod(ISSUER, "system:admin")] {
            assert_eq!(world.get("/version", &other).await.0, 401);
        }
    }
}

#[tokio::test]
async fn fronts_own_token_is_read_again() {
    let world = World::new().await;
    let ada = world.account("ada");
    assert_eq!(world.get("/version", &ada).await.0, 200);
    std::fs::write(&world.token_file, "front-2").unwrap();
    *world.api.refuse.lock().unwrap() = Some("Bearer front-1");
    let (status, answer) = world.get("/version", &ada).await;
    assert_eq!(status, 502, "that front isn't known is not the caller's fault: {answer}");
    assert_eq!(world.get("/version", &ada).await.0, 200);
    assert_eq!(world.seen().pop().unwrap().all("authorization"), ["Bearer front-2"]);
}

#[tokio::test]
async fn metrics_are_served_where_tenants_do_not_come() {
    let world = World::new().await;
    let mut raw = tokio::net::TcpStream::connect(world.admin).await.unwrap();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    raw.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    raw.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("atoll_front_open_requests 0"), "{text}");
}
