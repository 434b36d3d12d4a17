//! Logging in, being logged in, and its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::http::SESSION_COOKIE;
use base64::Engine;
use server::Lifetimes;

use crate::client::Rig;
use crate::common::PASSWORD;

async fn me(rig: &Rig, cookie: &str) -> u16 {
    rig.ask("GET", "/api/v1/me").cookie(cookie).send().await.status
}

#[tokio::test]
async fn the_cookie_is_for_us_alone_and_its_value_is_not_kept() {
    let rig = Rig::new();
    let answer = rig.ask("POST", "/api/v1/login").own().login("ada", PASSWORD).send().await;
    assert_eq!(answer.json()["displayName"], "Ada Lovelace");
    let cookie = answer.header("set-cookie");
    for part in ["__Host-", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let value = cookie.split(['=', ';']).nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value).unwrap();
    assert_eq!(bytes.len(), 32);
    let kept = rig.memory.sessions();
    assert_eq!(kept.len(), 1);
    assert!(kept.keys().all(|hash| hash.0[..] != bytes[..]));
    assert_eq!(me(&rig, &format!("{SESSION_COOKIE}={value}")).await, 200);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_are_told_alike() {
    let rig = Rig::new();
    let wrong = rig.ask("POST", "/api/v1/login").own().login("ada", "wrong").send().await;
    let unknown = rig.ask("POST", "/api/v1/login").own().login("nobody", "wrong").send().await;
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(wrong.text, unknown.text);
    let empty = rig.ask("POST", "/api/v1/login").own().login("ada", "").send().await;
    assert_eq!((empty.status, empty.problem().field.as_deref()), (422, Some("password")));
}

#[tokio::test]
async fn guessing_is_slowed_down_and_told_for_how_long() {
    for path in ["/api/v1/login", "/api/v1/tokens"] {
        let rig = Rig::new();
        for _ in 0..10 {
            let answer = rig.ask("POST", path).own().login("ada", "wrong").send().await;
            assert_eq!(answer.status, 401);
        }
        let answer = rig.ask("POST", path).own().login("ada", PASSWORD).send().await;
        assert_eq!(answer.status, 429, "even the right one: {}", answer.text);
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=6).contains(&seconds));
        assert!(answer.problem().detail.contains(&format!("{seconds} s")));
        let other = rig.ask("POST", path).own().login("eve", PASSWORD).send().await;
        assert_eq!(other.status, 200, "another account isn't held back");
    }
}

#[tokio::test]
async fn an_address_is_believed_only_from_the_gateway() {
    let guess = async |rig: &Rig, number: u32, address: &str| {
        let ask = rig.ask("POST", "/api/v1/login").own().login(&format!("a{number}"), "wrong");
        ask.header("x-forwarded-for", format!("198.51.100.{number}, {address}")).send().await.status
    };
    let trusting = Rig::with(|settings| settings.trust_forwarded = true);
    let alone = Rig::new();
    for number in 0..40 {
        assert_eq!(guess(&trusting, number, "203.0.113.9").await, 401);
        assert_eq!(guess(&alone, number, &format!("203.0.113.{number}")).await, 401);
    }
    assert_eq!(guess(&trusting, 41, "203.0.113.9").await, 429, "the last one is the client's");
    assert_eq!(guess(&trusting, 42, "203.0.113.10").await, 401);
    assert_eq!(guess(&alone, 41, "203.0.113.200").await, 429, "what anybody claims counts for nothing");
}

#[tokio::test]
async fn a_logout_ends_the_session_and_no_other() {
    let rig = Rig::new();
    let (one, two) = (rig.log_in("ada").await, rig.log_in("ada").await);
    assert_ne!(one, two);
    let answer = rig.ask("POST", "/api/v1/logout").own().cookie(&one).send().await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert_eq!((me(&rig, &one).await, me(&rig, &two).await), (401, 200));
}

#[tokio::test]
async fn a_new_login_ends_the_browsers_old_session() {
    let rig = Rig::new();
    let old = rig.log_in("eve").await;
    let answer = rig.ask("POST", "/api/v1/login").own().cookie(&old).login("ada", PASSWORD).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(me(&rig, &old).await, 401);
    assert_eq!(rig.memory.sessions().len(), 1);
}

#[tokio::test]
async fn sessions_end_by_idleness_by_age_and_with_the_account() {
    let lifetimes = Lifetimes { idle: Duration::from_secs(600), absolute: Duration::from_secs(1000) };
    let rig = Rig::with(|settings| settings.lifetimes = lifetimes);
    let pass = |seconds| rig.now.fetch_add(seconds, Ordering::Relaxed);

    let cookie = rig.log_in("ada").await;
    pass(599);
    assert_eq!(me(&rig, &cookie).await, 200);
    pass(400);
    assert_eq!(me(&rig, &cookie).await, 200, "it was used meanwhile");
    pass(1);
    assert_eq!(me(&rig, &cookie).await, 401, "a thousand seconds");
    assert!(rig.memory.sessions().is_empty(), "what has ended isn't kept");

    let cookie = rig.log_in("ada").await;
    pass(600);
    assert_eq!(me(&rig, &cookie).await, 401, "idle");

    let cookie = rig.log_in("ada").await;
    rig.memory.disable("ada");
    assert_eq!(me(&rig, &cookie).await, 401, "shut out");
}

#[tokio::test]
async fn a_token_is_made_by_password_and_speaks_for_the_account() {
    let rig = Rig::new();
    let answer = rig.ask("POST", "/api/v1/tokens").login("ada", PASSWORD).send().await;
    assert_eq!(answer.status, 200, "a program sends nothing of ours: {}", answer.text);
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!(answer.header("cache-control"), "no-store");
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let me = rig.ask("GET", "/api/v1/me").header("authorization", format!("Bearer {token}")).send().await;
    assert_eq!(me.json()["account"], "ada");
}
