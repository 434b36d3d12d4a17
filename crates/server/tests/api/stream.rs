//! The stream of changes.

use std::time::Duration;

use futures::StreamExt;

use crate::client::{Rig, until};

#[tokio::test]
async fn a_change_comes_to_who_may_see_it() {
    let rig = Rig::new();
    let (ada, eve) = (rig.log_in("ada").await, rig.log_in("eve").await);
    let adas = rig.ask("GET", "/api/v1/events").cookie(&ada).open().await;
    let eves = rig.ask("GET", "/api/v1/events").cookie(&eve).open().await;
    assert_eq!(adas.headers()["content-type"], "text/event-stream");
    rig.memory.progress("shop", "wiki-ada", "0/1");
    rig.memory.charge("secret", 1);
    let (text, _) = until(adas, "data:").await;
    assert!(text.contains(r#"data: {"kind":"apps","workspace":"shop"}"#), "{text}");
    let (text, _) = until(eves, "data:").await;
    assert!(text.contains("secret") && !text.contains("shop"), "{text}");
}

#[tokio::test]
async fn a_stream_shows_that_it_lives_and_ends_with_the_session() {
    let rig = Rig::with(|settings| settings.heartbeat = Duration::from_millis(20));
    let cookie = rig.log_in("ada").await;
    let response = rig.ask("GET", "/api/v1/events").cookie(&cookie).open().await;
    let (text, stream) = until(response, ": alive\n\n: alive").await;
    assert!(!text.contains("data:"));
    rig.memory.end_all_sessions();
    let rest = tokio::time::timeout(Duration::from_secs(5), stream.count()).await;
    rest.expect("the stream ends with the session");
}

#[tokio::test]
async fn streams_are_counted_and_end_when_the_server_closes() {
    let rig = Rig::with(|settings| settings.streams = 2);
    let cookie = rig.log_in("ada").await;
    let open = || rig.ask("GET", "/api/v1/events").cookie(&cookie).open();
    let (one, two) = (open().await, open().await);
    let third = open().await;
    assert_eq!(third.status(), 429);
    assert!(third.headers().contains_key("retry-after"));
    drop(one);
    let again = open().await;
    assert_eq!(again.status(), 200);
    rig.server.close();
    for response in [two, again] {
        let rest = response.into_body().into_data_stream().count();
        tokio::time::timeout(Duration::from_secs(5), rest).await.expect("the stream ends");
    }
}
