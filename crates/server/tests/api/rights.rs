//! Every endpoint, asked by who may not.

use crate::client::Rig;

#[tokio::test]
async fn without_a_login_every_endpoint_is_401() {
    let rig = Rig::new();
    let forged = format!("{}={}", api::http::SESSION_COOKIE, "A".repeat(43));
    for (method, path) in rig.endpoints("shop").await {
        let asks = [
            rig.ask(&method, &path).own(),
            rig.ask(&method, &path).own().cookie(&forged),
            rig.ask(&method, &path).own().header("authorization", "Bearer nonsense"),
            rig.ask(&method, &path).own().header("authorization", "Basic YWRhOng="),
        ];
        for ask in asks {
            let answer = ask.login("ada", "wrong").send().await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
            answer.problem();
            assert_eq!(answer.header("set-cookie"), "", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn another_tenants_workspace_is_as_one_that_is_not_there() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    let mut asked = 0;
    for (method, path) in rig.endpoints("WORKSPACE").await {
        if !path.contains("WORKSPACE") {
            continue;
        }
        asked += 1;
        let of = |workspace: &str| {
            let body = serde_json::json!({ "template": "wiki" });
            rig.ask(&method, &path.replace("WORKSPACE", workspace)).own().cookie(&cookie).json(&body).send()
        };
        let (others, none) = (of("secret").await, of("absent").await);
        assert_eq!(others.status, 404, "{method} {path}: {}", others.text);
        others.problem();
        assert_eq!(others.text.replace("secret", "absent"), none.text, "{method} {path}");
        assert_eq!(others.headers, none.headers);
        assert!(of("..").await.status == 404 && of("%2e%2e%2fshop").await.status == 404);
        let mine = of("shop").await;
        assert!(mine.status < 300, "{method} {path}: {}", mine.text);
    }
    assert_eq!(asked, 5);
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    rig.memory.add_app("lab", "wiki-ada", "wiki", "Wiki", "1/1");
    let mut refused = 0;
    for (method, path) in rig.endpoints("lab").await {
        if !path.contains("/lab/") {
            continue;
        }
        let body = serde_json::json!({ "template": "wiki" });
        let answer = rig.ask(&method, &path).own().cookie(&cookie).json(&body).send().await;
        if method == "GET" {
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        } else {
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn accounts_are_for_operators() {
    let rig = Rig::new();
    let (ada, olga) = (rig.log_in("ada").await, rig.log_in("olga").await);
    let body = serde_json::json!({ "name": "bob", "displayName": " Bob ", "password": "correct horse" });
    let make = |cookie: &str, body: &serde_json::Value| {
        rig.ask("POST", "/api/v1/accounts").own().cookie(cookie).json(body).send()
    };
    let list = |cookie: &str| rig.ask("GET", "/api/v1/accounts").cookie(cookie).send();
    assert_eq!((make(&ada, &body).await.status, list(&ada).await.status), (403, 403));
    assert_eq!(list(&olga).await.text, "[]", "nothing was made");
    let made = make(&olga, &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(!made.text.contains("horse"), "the password is not told again");
    assert_eq!(list(&olga).await.json()[0]["displayName"], "Bob");
    for (body, status, field) in [
        (body.clone(), 409, "name"),
        (serde_json::json!({ "name": "B b", "password": "correct horse" }), 422, "name"),
        (serde_json::json!({ "name": "cy", "password": "short" }), 422, "password"),
        (serde_json::json!({ "name": "cy" }), 422, "password"),
        (serde_json::json!({ "password": "correct horse" }), 422, "name"),
    ] {
        let problem = make(&olga, &body).await.problem();
        assert_eq!((problem.status, problem.field.as_deref()), (status, Some(field)), "{body}");
    }
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let rig = Rig::new();
    let cookie = rig.log_in("ada").await;
    for (method, path) in rig.endpoints("shop").await {
        let body =
            serde_json::json!({ "account": "ada", "password": "wrong", "name": "new", "template": "wiki" });
        let asks = [
            // A form, or an image.
            (rig.ask(&method, &path), path.ends_with("/tokens")),
            (
                rig.ask(&method, &path)
                    .header("x-atoll-desktop", "1")
                    .header("origin", "https://evil.example"),
                false,
            ),
            (
                rig.ask(&method, &path).header("x-atoll-desktop", "1").header("sec-fetch-site", "cross-site"),
                false,
            ),
            (
                rig.ask(&method, &path).header("x-atoll-desktop", "1").header("sec-fetch-site", "same-site"),
                false,
            ),
        ];
        for (ask, is_program) in asks {
            let answer = ask.cookie(&cookie).json(&body).open().await.status().as_u16();
            // By a token there is nothing to ride on: only the password counts.
            let expected = if method == "GET" {
                // She is no operator.
                if path.ends_with("/accounts") { 403 } else { 200 }
            } else if is_program {
                401
            } else {
                403
            };
            assert_eq!(answer, expected, "{method} {path}");
        }
    }
    assert_eq!(rig.memory.sessions().len(), 1, "nobody was logged out");
    let by_token = rig
        .ask("DELETE", "/api/v1/workspaces/shop/apps/wiki-ada")
        .header("authorization", "Bearer token-of-ada")
        .send()
        .await;
    assert_eq!(by_token.status, 204, "a program has no page: {}", by_token.text);
}

#[tokio::test]
async fn the_document_and_the_crates_table_tell_the_same() {
    let rig = Rig::new();
    let mut told: Vec<_> = rig.endpoints("{w}").await;
    told.push(("GET".to_owned(), "/api/v1/openapi.json".to_owned()));
    told.sort();
    let mut table: Vec<_> = include_str!("../../../api/src/http.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next()?.split_once(' '))
        .map(|(method, path)| {
            let path = path.split('?').next().unwrap_or_default().replace("{name}", "wiki-ada");
            (method.to_owned(), path)
        })
        .collect();
    table.sort();
    assert_eq!(told, table);
}
