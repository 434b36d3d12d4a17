//! What is too much, what is broken, and what every answer has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::Rig;
use crate::common::PASSWORD;

#[tokio::test]
async fn a_body_has_a_size_and_a_kind() {
    let rig = Rig::with(|settings| settings.body_limit = 1000);
    let login = || rig.ask("POST", "/api/v1/login").own();
    let large = login().header("content-type", "application/json").raw("x".repeat(1001)).send().await;
    assert_eq!(large.status, 413);
    assert!(large.problem().detail.contains("1000 bytes"));
    let form =
        login().header("content-type", "application/x-www-form-urlencoded").raw("account=ada").send().await;
    assert_eq!(form.status, 415);
    form.problem();
    let nonsense = login().header("content-type", "application/json; charset=utf-8").raw("{").send().await;
    assert_eq!(nonsense.status, 422);
}

#[tokio::test]
async fn what_takes_too_long_is_ended() {
    let rig = Rig::with(|settings| settings.time_limit = Duration::from_millis(50));
    let cookie = rig.log_in("ada").await;
    rig.memory.slow.store(true, Ordering::Relaxed);
    let answer = rig.ask("GET", "/api/v1/workspaces").cookie(&cookie).send().await;
    assert_eq!(answer.status, 503);
    answer.problem();
}

#[tokio::test]
async fn what_is_broken_inside_stays_inside() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    rig.memory.broken.store(true, Ordering::Relaxed);
    let answer = rig.ask("GET", "/api/v1/workspaces").cookie(&cookie).send().await;
    assert_eq!(answer.status, 500);
    answer.problem();
    assert!(!answer.text.contains("10.0.0.7"), "{}", answer.text);
}

#[tokio::test]
async fn every_answer_has_the_headers_that_browsers_need() {
    let rig = Rig::new();
    for path in ["/", "/assets/none.js", "/api/v1/me", "/api/v1/nonsense", "/api"] {
        let answer = rig.ask("GET", path).send().await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        if path.starts_with("/api") {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            answer.problem();
        }
    }
    let wrong = rig.ask("PUT", "/api/v1/login").own().send().await;
    assert_eq!(wrong.status, 405);
}

#[tokio::test]
async fn operators_see_counts_and_people_do_not() {
    let rig = Rig::new();
    let _ = rig.log_in("ada").await;
    rig.ask("POST", "/api/v1/login").own().login("ada", "wrong").send().await;
    rig.ask("GET", "/some/place?password=secret").send().await;
    let admin = Rig { router: rig.server.admin_router(), ..Rig::new() };
    let text = admin.ask("GET", "/metrics").send().await.text;
    for line in [
        "atoll_server_requests_total{route=\"/api/v1/login\",status=\"2xx\"} 1",
        "atoll_server_requests_total{route=\"/api/v1/login\",status=\"4xx\"} 1",
        "atoll_server_logins_refused_total 1",
        "atoll_server_request_seconds_count 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("ada") && !text.contains("place") && !text.contains(PASSWORD));
    assert_eq!(admin.ask("GET", "/healthz").send().await.status, 200);
    assert_eq!(admin.ask("GET", "/readyz").send().await.status, 200);
    assert_eq!(rig.ask("GET", "/metrics").send().await.status, 404, "not on the people's side");
    rig.server.close();
    assert_eq!(admin.ask("GET", "/readyz").send().await.status, 503);
}
