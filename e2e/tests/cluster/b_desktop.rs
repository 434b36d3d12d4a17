//! The same journey as by command, in a real browser: from an operator who makes
//! the account to the bill of an app.

use std::time::{Duration, Instant};

use browser::Browser;
use e2e::{Cluster, PASSWORD, run_with};

/// Logs in; the server may hear of a new account a moment later.
async fn log_in(browser: &Browser, account: &str) {
    browser.fill("#account", account).await;
    browser.fill("#password", PASSWORD).await;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        browser.click("form button[type=submit]").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if browser.has(".dock").await {
            return;
        }
        assert!(Instant::now() < end, "{account} can't log in:\n{}", browser.text().await);
    }
}

/// Asks again and again, for what takes longer than the page.
async fn until(what: &str, limit: Duration, browser: &Browser, script: &str) -> String {
    let end = Instant::now() + limit;
    loop {
        if let Some(text) = browser.script(script).await.as_str().filter(|text| !text.is_empty()) {
            return text.to_owned();
        }
        assert!(Instant::now() < end, "{what} did not come:\n{}", browser.text().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn a_stranger_becomes_a_customer_in_the_browser() {
    let cluster = Cluster::shared();
    let words = ["account", "create", "olga", "--operator", "--password-stdin"];
    run_with(&mut cluster.command(&words), PASSWORD).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(journey(cluster));
    cluster.atoll(&["account", "delete", "olga"]).ok();
}

async fn journey(cluster: &Cluster) {
    let authority = std::fs::read_to_string(cluster.authority().path()).unwrap();
    let browser = Browser::open(&authority, 1280, 860, false).await;
    let desktop = format!("https://atoll.localhost:{}", cluster.https());
    browser.goto(&format!("{desktop}/")).await;

    browser.fill("#account", "olga").await;
    browser.click("form button[type=submit]").await;
    browser.shows("The password is missing; fill it in.").await;
    browser.fill("#password", "not the password").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Account and password don't match").await;
    log_in(&browser, "olga").await;

    // An operator makes the account.
    browser.click(".dock a[href='/accounts']").await;
    browser.find("[data-account=olga]").await;
    browser.fill("#account-name", "olga").await;
    browser.fill("#account-password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.shows("The name olga is taken: choose another.").await;
    browser.fill("#account-name", "bea").await;
    browser.fill("#account-title", "Bea").await;
    browser.fill("#account-password", "short").await;
    browser.click("form button[type=submit]").await;
    browser.shows("A password needs 8 to 256 characters.").await;
    browser.fill("#account-password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.find("[data-account=bea]").await;
    browser.click("#log-out").await;

    // She logs in and makes a workspace.
    log_in(&browser, "bea").await;
    assert!(!browser.has(".dock a[href='/accounts']").await, "she is no operator");
    browser.script("window.sameFor = 'ever'").await;
    browser.shows("No workspace yet").await;
    browser.fill("#workspace-name", "Bea's").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Use small letters, digits and hyphens.").await;
    browser.fill("#workspace-name", "bea-shop").await;
    browser.click("form button[type=submit]").await;
    // The page goes there once it is made.
    browser.shows("you are its owner").await;
    browser.click(".dock a[href='/workspaces']").await;
    browser.find("article[aria-label=bea-shop] .state.good").await;

    // An app from the store; it comes up under her eyes.
    browser.click(".dock a[href='/w/bea-shop/store']").await;
    browser.click("a[href='/w/bea-shop/store/hello']").await;
    browser.fill("#input-whom", "Bea").await;
    browser.click("form button[type=submit]").await;
    browser.find("[data-app] .state.good").await;
    assert_eq!(browser.script("return window.sameFor").await, "ever", "no reload");
    let link = "return document.querySelector('[data-app] .addresses a')?.href ?? ''";
    let address = until("the app's address", Duration::from_secs(60), &browser, link).await;

    // Its address, in the same browser: a certificate that it trusts.
    browser.goto(&address).await;
    browser.shows("Hello, Bea!").await;

    // Her bill: the first minute has to be over.
    let get = ["get", "workspaces.atoll.dev", "bea-shop", "-o", "jsonpath={.status.namespace}"];
    let namespace = cluster.kubectl(&get).ok();
    let pod = cluster.kubectl(&["get", "pods", "-n", &namespace, "-o", "name"]).ok();
    cluster.work(&namespace, pod.trim());
    browser.goto(&format!("{desktop}/w/bea-shop/usage")).await;
    let total = "const total = document.getElementById('total')?.textContent ?? ''; \
                 return /[1-9]/.test(total) ? total : ''";
    let charged = until("a charge", Duration::from_secs(180), &browser, total).await;
    assert!(charged.ends_with(" EUR"), "{charged}");
    browser.shows("Processor").await;
    browser.shows("pod/hello-").await;

    // Another password ends what was logged in before.
    cluster.atoll(&["account", "password", "bea"]).ok();
    browser.shows("Your session has ended.").await;
    browser.close().await;

    cluster.kubectl(&["delete", "workspaces.atoll.dev", "bea-shop"]).ok();
    cluster.atoll(&["account", "delete", "bea"]).ok();
}
