//! Lists and watches of namespaces and workspaces: the caller's own.

use std::time::Duration;

use api::Role;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::world::{TABLE, World, get, read};

/// The events of a watch, as `KIND name`.
struct Events(Incoming, Vec<u8>);

impl Events {
    async fn open(world: &World, target: &str, token: &str, accept: &str) -> Self {
        let mut request = get(target, token);
        request.headers_mut().insert("accept", accept.parse().unwrap());
        let answer = world.send(request).await;
        assert_eq!(answer.status(), 200);
        Self(answer.into_body(), Vec::new())
    }

    async fn next_within(&mut self, wait: Duration) -> Option<Value> {
        let read = async {
            loop {
                if let Some(end) = self.1.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.1.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                self.1.extend_from_slice(&self.0.frame().await?.unwrap().into_data().unwrap());
            }
        };
        tokio::time::timeout(wait, read).await.ok().flatten()
    }

    async fn next(&mut self) -> String {
        let event = self.next_within(Duration::from_secs(3)).await.expect("no event came");
        let object = &event["object"];
        let metadata = if object["kind"] == "Table" {
            &object["rows"][0]["object"]["metadata"]
        } else {
            &object["metadata"]
        };
        format!("{} {}", event["type"].as_str().unwrap(), metadata["name"].as_str().unwrap_or("-"))
    }

    async fn silent(&mut self) {
        let event = self.next_within(Duration::from_millis(150)).await;
        assert_eq!(event, None);
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_the_callers_own() {
    let world = World::new().await;
    let (ada, bob, eve, root) =
        (world.account("ada"), world.account("bob"), world.account("eve"), world.operator("root"));
    for (workspace, owner) in [("one", "ada"), ("two", "ada"), ("three", "bob")] {
        world.workspace(workspace, owner);
    }
    world.api.put("kube-system", "");
    let version = world.api.tick();
    world.index.lock().unwrap().set_member("three-x", "ada", Role::Viewer, version);
    let check = async |token: &str, wanted: &[&str]| {
        let (status, list) = world.get("/api/v1/namespaces", token).await;
        assert_eq!((status, names(&list)), (200, wanted.to_vec()));
    };
    check(&ada, &["one-x", "three-x", "two-x"]).await;
    check(&bob, &["three-x"]).await;
    check(&eve, &[]).await;
    let seen = world.seen().pop().unwrap();
    assert!(seen.all("impersonate-user").is_empty(), "front reads it for itself");
    check(&root, &["kube-system", "one-x", "three-x", "two-x"]).await;
    assert_eq!(world.seen().pop().unwrap().all("impersonate-user"), ["atoll:root"]);

    // Selectors, limits and continue go along; what isn't known doesn't.
    world
        .get("/api/v1/namespaces?limit=1&continue=abc&labelSelector=x%3Dy&fieldSelector=a%3Db&foo=1", &bob)
        .await;
    let target = world.seen().pop().unwrap().target;
    assert_eq!(
        target,
        "/api/v1/namespaces?limit=1&continue=abc&fieldSelector=a%3Db&\
         labelSelector=atoll.dev%2Fworkspace+in+%28three%29%2Cx%3Dy"
    );
    let mut table = get("/api/v1/namespaces", &bob);
    table.headers_mut().insert("accept", TABLE.parse().unwrap());
    let (_, table) = read(world.send(table).await).await;
    assert_eq!(table["rows"].as_array().unwrap().len(), 1, "{table}");
    assert_eq!(table["rows"][0]["cells"][0], "three-x");
}

#[tokio::test]
async fn anothers_namespace_is_not_there() {
    let world = World::new().await;
    let ada = world.account("ada");
    world.account("bob");
    world.workspace("one", "ada");
    world.workspace("two", "bob");
    let (status, answer) = world.get("/api/v1/namespaces/two-x", &ada).await;
    let (same, nowhere) = world.get("/api/v1/namespaces/nowhere-x", &ada).await;
    assert_eq!((status, same), (404, 404));
    let text = answer.to_string().replace("two-x", "nowhere-x");
    assert_eq!(text, nowhere.to_string(), "nothing tells which of them there is");
    assert!(world.seen().is_empty());
    assert_eq!(world.get("/api/v1/namespaces/one-x", &ada).await.0, 200);
    assert!(world.seen().remove(0).all("impersonate-user").is_empty());
    let (status, _) = world.get("/apis/atoll.dev/v1alpha1/workspaces/two", &ada).await;
    assert_eq!(status, 404);
    assert_eq!(world.get("/apis/atoll.dev/v1alpha1/workspaces/one", &ada).await.0, 200);
    world.seen();
    world.get("/apis/atoll.dev/v1alpha1/workspaces", &ada).await;
    let seen = world.seen().remove(0);
    assert!(seen.target.contains("labelSelector=atoll.dev%2Fworkspace+in+%28one%29"), "{}", seen.target);
    // Writes and subresources are RBAC's to decide, for the caller's name.
    world.get("/api/v1/namespaces/two-x/status", &ada).await;
    assert_eq!(world.seen().remove(0).all("impersonate-user"), ["atoll:ada"]);
}

#[tokio::test]
async fn anothers_workspace_is_not_there_to_be_changed() {
    let world = World::new().await;
    let ada = world.account("ada");
    world.account("bob");
    world.workspace("one", "ada");
    world.workspace("two", "bob");
    let change = async |method: &str, name: &str| {
        let mut request = get(&format!("/apis/atoll.dev/v1alpha1/workspaces/{name}"), &ada);
        *request.method_mut() = method.parse().unwrap();
        read(world.send(request).await).await
    };
    for method in ["PUT", "PATCH", "DELETE"] {
        let (status, answer) = change(method, "two").await;
        let (same, nowhere) = change(method, "nowhere").await;
        assert_eq!((status, same), (404, 404), "{method}");
        assert_eq!(answer.to_string().replace("two", "nowhere"), nowhere.to_string(), "{method}");
        assert!(world.seen().is_empty(), "{method}");
        change(method, "one").await;
        assert_eq!(world.seen().remove(0).all("impersonate-user"), ["atoll:ada"], "{method}");
    }
}

#[tokio::test]
async fn a_watch_follows_objects_and_memberships() {
    for accept in ["application/json", TABLE] {
        let world = World::new().await;
        let ada = world.account("ada");
        world.account("bob");
        world.workspace("one", "ada");
        world.workspace("two", "bob");
        let (_, list) = world.get("/api/v1/namespaces", &ada).await;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        let mut events = Events::open(
            &world,
            &format!("/api/v1/namespaces?watch=1&resourceVersion={version}"),
            &ada,
            accept,
        )
        .await;
        world.api.put("one-x", "one");
        assert_eq!(events.next().await, "MODIFIED one-x");
        world.api.put("two-x", "two");
        events.silent().await;
        // Gained, with what has happened to it before.
        let version = world.api.tick();
        world.index.lock().unwrap().set_member("two-x", "ada", Role::Viewer, version);
        assert_eq!(events.next().await, "ADDED two-x");
        events.silent().await;
        world.api.put("two-x", "two");
        assert_eq!(events.next().await, "MODIFIED two-x");
        // A new workspace of one's own.
        world.workspace("three", "ada");
        assert_eq!(events.next().await, "ADDED three-x");
        events.silent().await;
        // Lost, and then unseen.
        let version = world.api.tick();
        world.index.lock().unwrap().remove_member("two-x", "ada", version);
        assert_eq!(events.next().await, "DELETED two-x");
        world.api.put("two-x", "two");
        world.api.put("one-x", "one");
        assert_eq!(events.next().await, "MODIFIED one-x");
        // The workspace goes before its namespace, and the other way round.
        let version = world.api.tick();
        world.index.lock().unwrap().remove_workspace("three", version);
        assert_eq!(events.next().await, "DELETED three-x");
        world.api.remove("three-x");
        events.silent().await;
        world.api.remove("one-x");
        assert_eq!(events.next().await, "DELETED one-x");
        let version = world.api.tick();
        world.index.lock().unwrap().remove_workspace("one", version);
        events.silent().await;
        world.streams(1).await;
    }
}

#[tokio::test]
async fn what_was_listed_before_a_change_is_out_of_date() {
    let world = World::new().await;
    let ada = world.account("ada");
    world.workspace("one", "ada");
    let (_, list) = world.get("/api/v1/namespaces", &ada).await;
    let old = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.workspace("two", "ada");
    let (status, answer) =
        world.get(&format!("/api/v1/namespaces?watch=1&resourceVersion={old}"), &ada).await;
    assert_eq!((status, &answer["reason"]), (410, &"Expired".into()));
    let (_, list) = world.get("/api/v1/namespaces", &ada).await;
    let new = list["metadata"]["resourceVersion"].as_str().unwrap();
    let target = format!("/api/v1/namespaces?watch=1&resourceVersion={new}");
    let mut events = Events::open(&world, &target, &ada, "application/json").await;
    events.silent().await;
}

#[tokio::test]
async fn forms_that_would_go_around_it_are_refused() {
    let world = World::new().await;
    let ada = world.account("ada");
    assert_eq!(world.get("/api/v1/watch/namespaces", &ada).await.0, 400);
    let mut binary = get("/api/v1/namespaces?watch=1", &ada);
    binary
        .headers_mut()
        .insert("accept", "application/vnd.kubernetes.protobuf;stream=watch".parse().unwrap());
    assert_eq!(world.send(binary).await.status(), 406);
    let text = format!(
        "GET /api/v1/namespaces?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    );
    assert!(world.raw(&text).await.until("\r\n").await.contains("400"));
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_list_across_namespaces_is_of_the_callers_own() {
    let world = World::new().await;
    let (ada, eve, root) = (world.account("ada"), world.account("eve"), world.operator("root"));
    for workspace in ["two", "one", "closed"] {
        world.workspace(workspace, "ada");
    }
    world.workspace("three", "bob");
    let (status, list) = world.get("/api/v1/pods?labelSelector=a%3Db", &ada).await;
    assert_eq!(status, 200);
    let found: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]["namespace"]).collect();
    assert_eq!(found, ["one-x", "two-x"]);
    let seen = world.seen();
    let targets: Vec<&str> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/api/v1/namespaces/closed-x/pods?labelSelector=a%3Db",
            "/api/v1/namespaces/one-x/pods?labelSelector=a%3Db",
            "/api/v1/namespaces/two-x/pods?labelSelector=a%3Db&resourceVersion=77&resourceVersionMatch=Exact",
        ]
    );
    assert!(seen.iter().all(|seen| seen.all("impersonate-user") == ["atoll:ada"]), "RBAC decides on each");
    let mut binary = get("/api/v1/pods", &ada);
    binary.headers_mut().insert("accept", "application/vnd.kubernetes.protobuf".parse().unwrap());
    assert_eq!(world.send(binary).await.status(), 406);
    world.seen();
    // A kind without namespaces, and who has none: as it was asked for.
    assert_eq!(world.get("/api/v1/nodes", &ada).await.0, 403);
    let last = world.seen().pop().unwrap();
    assert_eq!((last.target.as_str(), last.all("impersonate-user")), ("/api/v1/nodes", vec!["atoll:ada"]));
    world.get("/api/v1/pods", &eve).await;
    world.get("/api/v1/pods", &root).await;
    let targets: Vec<String> = world.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/api/v1/pods", "/api/v1/pods"]);
}
