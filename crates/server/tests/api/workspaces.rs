//! Workspaces, apps, usage and bill.

use serde_json::json;

use crate::client::Rig;

#[tokio::test]
async fn a_caller_sees_its_own() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    let list = rig.ask("GET", "/api/v1/workspaces").cookie(&cookie).send().await.json();
    let seen: Vec<_> = list.as_array().unwrap().iter().map(|one| (&one["name"], &one["role"])).collect();
    assert_eq!(seen, [(&json!("lab"), &json!("viewer")), (&json!("shop"), &json!("owner"))]);
}

#[tokio::test]
async fn a_workspace_is_made_or_the_field_is_named() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    let make = |body| rig.ask("POST", "/api/v1/workspaces").own().cookie(&cookie).json(&body).send();
    let made = make(json!({ "name": "new-1", "displayName": "  New  " })).await;
    assert_eq!((made.status, made.json()["displayName"].as_str()), (201, Some("New")));
    for (body, status, field) in [
        (json!({ "name": "new-1" }), 409, "name"),
        (json!({ "name": "Not A Label" }), 422, "name"),
        (json!({ "name": "" }), 422, "name"),
        (json!({}), 422, "name"),
        (json!({ "name": 7 }), 422, "name"),
        (json!({ "name": "x", "displayName": "y".repeat(101) }), 422, "displayName"),
        (json!({ "name": "x", "displayName": "a\u{7}b" }), 422, "displayName"),
    ] {
        let answer = make(body.clone()).await;
        let problem = answer.problem();
        assert_eq!((answer.status, problem.field.as_deref()), (status, Some(field)), "{body}");
    }
}

#[tokio::test]
async fn an_app_comes_and_goes() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    let apps = "/api/v1/workspaces/shop/apps";
    let install = |body| rig.ask("POST", apps).own().cookie(&cookie).json(&body).send();
    let missing = install(json!({ "template": "chat", "inputs": { "host": "" } })).await;
    assert_eq!((missing.status, missing.problem().field.as_deref()), (422, Some("inputs.host")));
    let unknown = install(json!({ "template": "nonsense" })).await;
    assert_eq!(unknown.problem().field.as_deref(), Some("template"));

    let inputs = json!({ "host": "chat.example", "admin_password": "x" });
    assert_eq!(install(json!({ "template": "chat", "inputs": inputs })).await.status, 201);
    let names = async || {
        let list = rig.ask("GET", apps).cookie(&cookie).send().await.json();
        list.as_array()
            .unwrap()
            .iter()
            .map(|app| app["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["wiki-ada", "chat-xkcd"]);
    let remove = |name: &str| rig.ask("DELETE", &format!("{apps}/{name}")).own().cookie(&cookie).send();
    assert_eq!(remove("chat-xkcd").await.status, 204);
    assert_eq!(remove("chat-xkcd").await.status, 404);
    assert_eq!(names().await, ["wiki-ada"]);
}

#[tokio::test]
async fn money_is_asked_for_by_time() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    let ask = |what: &str| rig.ask("GET", &format!("/api/v1/workspaces/shop/{what}")).cookie(&cookie).send();
    let bill = ask("bill?from=600&to=6000").await.json();
    assert_eq!((bill["fromMinute"].as_u64(), bill["toMinute"].as_u64()), (Some(10), Some(100)));
    assert_eq!(bill["currency"], "EUR");
    assert_eq!(ask("bill").await.json()["fromMinute"], 1_793_491_200 / 60, "this month");
    assert!(ask("usage").await.json().as_array().unwrap().len() > 3);
    for what in ["bill?from=x", "usage?from=5&to=5", "bill?to=-1"] {
        let answer = ask(what).await;
        assert_eq!(answer.status, 422, "{what}");
        assert!(answer.problem().field.is_some(), "{what}");
    }
}
