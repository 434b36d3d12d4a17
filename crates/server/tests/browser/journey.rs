//! What people do at the desktop.

use browser::Browser;

use crate::common::PASSWORD;
use crate::https::Site;

/// Milliseconds from the request for the page.
const PAINT: &str = "return performance.getEntriesByType('paint').map(e => [e.name, Math.round(e.startTime)]).concat(
    performance.getEntriesByType('resource').map(e => [e.name.split('/').pop(), Math.round(e.responseEnd), e.transferSize]))";

async fn log_in(browser: &Browser) {
    log_in_as(browser, "ada").await;
}

async fn log_in_as(browser: &Browser, account: &str) {
    browser.fill("#account", account).await;
    browser.fill("#password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.find(".dock").await;
}

/// The browser's own complaints: refused files, broken scripts.
async fn no_complaints(browser: &Browser) {
    let broken = browser.script("return document.getElementById('broken').textContent").await;
    assert_eq!(broken, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_login_to_logout() {
    let mut site = Site::start().await;
    let browser = Browser::open(&site.authority, 1280, 860, false).await;

    // Another place than the first, to be led back to.
    browser.goto(&site.url("/w/shop/apps")).await;
    browser.fill("#account", "ada").await;
    println!("paint, cold: {}", browser.script(PAINT).await);
    browser.fill("#password", "wrong").await;
    browser.picture("login").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Account and password don't match").await;
    browser.picture("login-refused").await;
    log_in(&browser).await;
    assert_eq!(browser.path().await, "/w/shop/apps");
    // Told in docs/benchmarks/desktop.md; nothing depends on it.
    browser.client.refresh().await.unwrap();
    browser.find(".dock").await;
    println!("paint, warm: {}", browser.script(PAINT).await);
    browser.shows("wiki-ada.atollapps.localhost").await;
    browser.shows("live").await;

    // Her workspaces, and not Eve's.
    browser.click(".dock a[href='/workspaces']").await;
    browser.shows("The corner shop").await;
    browser.shows("owner eve").await;
    browser.shows_no("secret").await;
    browser.picture("workspaces").await;
    browser.fill("#workspace-name", "Not A Name").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Use small letters, digits and hyphens.").await;
    browser.fill("#workspace-name", "secret").await;
    browser.click("form button[type=submit]").await;
    browser.shows("The name secret is taken; choose another.").await;

    // The store: a form with something missing.
    browser.click(".dock a[href='/w/shop/store']").await;
    browser.shows("Rooms to talk in").await;
    browser.picture("store").await;
    browser.fill("#search", "pictures").await;
    browser.shows_no("Rooms to talk in").await;
    browser.fill("#search", "rooms").await;
    browser.click("a[href='/w/shop/store/chat']").await;
    browser.find("#input-host").await;
    browser.click("form button[type=submit]").await;
    let at_field = browser.find("#input-host-error").await.text().await.unwrap();
    assert_eq!(at_field, "This is needed. Fill it in.");
    let focused = browser.script("return document.activeElement.id").await;
    assert_eq!(focused, "input-host", "the first field that is wrong");
    browser.fill("#input-host", "taken.example").await;
    browser.fill("#input-admin_password", "x").await;
    browser.fill("#input-replicas", "many").await;
    browser.click("form button[type=submit]").await;
    browser.shows("This is not a whole number.").await;
    browser.picture("install-wrong").await;
    browser.fill("#input-replicas", "3").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Host is used by another app; choose another.").await;
    browser.fill("#input-host", "chat.example").await;
    browser.click("form button[type=submit]").await;

    // The app appears and comes up, without a reload.
    browser.script("window.sameFor = 'ever'").await;
    browser.shows("chat-xkcd").await;
    assert_eq!(browser.path().await, "/w/shop/apps");
    let state = "[data-app=chat-xkcd] .state";
    assert_eq!(browser.find(state).await.text().await.unwrap(), "starting, 0/2 ready");
    site.memory.progress("shop", "chat-xkcd", "1/2");
    browser.shows("starting, 1/2 ready").await;
    browser.picture("apps").await;
    site.memory.progress("shop", "chat-xkcd", "2/2");
    browser.shows_no("starting").await;
    assert_eq!(browser.find(state).await.text().await.unwrap(), "ready");

    // The server goes and comes: the page says so and catches up.
    site.stop().await;
    browser.shows("no connection").await;
    site.memory.add_app("shop", "board-new", "board", "Board", "1/1");
    site.start_again().await;
    browser.shows("board-new").await;
    browser.shows("live").await;
    assert_eq!(browser.script("return window.sameFor").await, "ever", "no reload");

    // Home, with the keyboard.
    browser.script("document.querySelector('main h1').dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))").await;
    browser.shows("Spent this month").await;
    browser.shows("3 of 3").await;
    browser.picture("home").await;

    // The bill, live.
    browser.click(".dock a[href='/w/shop/usage']").await;
    browser.shows("3.48 EUR").await;
    browser.shows("11.5 core-hours").await;
    browser.picture("usage").await;
    site.memory.charge("shop", 2_000_000);
    browser.shows("5.48 EUR").await;

    // Access: a token, shown once.
    browser.click(".dock a[href='/access']").await;
    browser.shows("atoll kubeconfig --account ada").await;
    browser.fill("#token-password", "wrong").await;
    browser.click("form button[type=submit]").await;
    browser.shows("This is not your password.").await;
    browser.fill("#token-password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.shows("token-of-ada").await;
    browser.picture("access").await;
    browser.click(".dock a[href='/w/shop/apps']").await;
    browser.click(".dock a[href='/access']").await;
    browser.find("#token-password").await;
    browser.shows_no("token-of-ada").await;

    // An app goes.
    browser.click(".dock a[href='/w/shop/apps']").await;
    browser.click("[data-app=chat-xkcd] button").await;
    browser.shows("This can't be undone.").await;
    browser.picture("remove").await;
    browser.click("[data-app=chat-xkcd] .danger").await;
    browser.shows_no("chat-xkcd").await;

    browser.click("#log-out").await;
    browser.shows("Log in to Atoll").await;
    assert!(!browser.has(".dock").await);
    browser.goto(&site.url("/w/shop/apps")).await;
    browser.shows("Log in to Atoll").await;
    no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_accounts() {
    let site = Site::start().await;
    let browser = Browser::open(&site.authority, 1280, 860, false).await;
    browser.goto(&site.url("/")).await;
    log_in(&browser).await;
    assert!(!browser.has(".dock a[href='/accounts']").await, "she is no operator");
    // The address is there for everybody; what it shows is not.
    browser.goto(&site.url("/accounts")).await;
    browser.shows("Only operators of the cloud may do that").await;
    browser.click("#log-out").await;
    log_in_as(&browser, "olga").await;
    browser.click(".dock a[href='/accounts']").await;
    browser.fill("#account-name", "Not A Name").await;
    browser.click("form button[type=submit]").await;
    browser.shows("Use small letters, digits and hyphens.").await;
    browser.shows("This is needed. Fill it in.").await;
    browser.fill("#account-name", "bob").await;
    browser.fill("#account-title", "Bob").await;
    browser.fill("#account-password", "short").await;
    browser.click("form button[type=submit]").await;
    browser.shows("A password needs 8 to 256 characters.").await;
    browser.fill("#account-password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.find("[data-account=bob]").await;
    browser.picture("accounts").await;
    browser.fill("#account-name", "bob").await;
    browser.fill("#account-password", PASSWORD).await;
    browser.click("form button[type=submit]").await;
    browser.shows("The name bob is taken; choose another.").await;
    no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_leads_back_to_the_same_place() {
    let site = Site::start().await;
    let browser = Browser::open(&site.authority, 1280, 860, true).await;
    browser.goto(&site.url("/w/shop/store/chat")).await;
    log_in(&browser).await;
    browser.find("#input-host").await;
    browser.picture("install-dark").await;
    site.memory.end_all_sessions();
    browser.shows("Your session has ended.").await;
    browser.picture("session-ended-dark").await;
    log_in(&browser).await;
    browser.find("#input-host").await;
    assert_eq!(browser.path().await, "/w/shop/store/chat");
    for (place, words) in [("", "Spent this month"), ("/apps", "wiki-ada.atollapps"), ("/usage", "3.48 EUR")]
    {
        browser.goto(&site.url(&format!("/w/shop{place}"))).await;
        browser.shows(words).await;
        browser.picture(&format!("dark{}", place.replace('/', "-"))).await;
    }
    no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_a_phone() {
    let site = Site::start().await;
    let browser = Browser::open(&site.authority, 390, 844, false).await;
    browser.goto(&site.url("/")).await;
    log_in(&browser).await;
    for (place, words) in [
        ("/w/shop", "Spent this month"),
        ("/w/shop/apps", "wiki-ada.atollapps.localhost"),
        ("/w/shop/store", "Rooms to talk in"),
        ("/w/shop/store/chat", "Install into shop"),
        ("/w/shop/usage", "3.48 EUR"),
        ("/workspaces", "The corner shop"),
        ("/access", "atoll login"),
    ] {
        browser.goto(&site.url(place)).await;
        browser.shows(words).await;
        let wide = browser.script("return [document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(wide[1], 390);
        assert_eq!(wide[0], 390, "{place} is wider than the phone");
        // Whatever is to be touched can be.
        let small = browser
            .script(
                "return [...document.querySelectorAll('button, .dock a, main a.button')] \
                 .filter(e => e.offsetParent && Math.min(e.offsetWidth, e.offsetHeight) < 36) \
                 .map(e => e.outerHTML)",
            )
            .await;
        assert_eq!(small, serde_json::json!([]), "{place}");
        let name = place.rsplit('/').next().unwrap_or_default();
        browser.picture(&format!("phone-{name}")).await;
    }
    // By touch, and out.
    browser.goto(&site.url("/w/shop")).await;
    browser.click(".dock a[href='/w/shop/apps']").await;
    browser.shows("wiki-ada.atollapps.localhost").await;
    browser.click("#log-out").await;
    browser.shows("Log in to Atoll").await;
    assert_eq!(browser.path().await, "/", "who comes next begins at the beginning");
    browser.close().await;
}
