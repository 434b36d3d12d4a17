//! A Chromium for tests, driven by chromedriver. It trusts the authority that it
//! is told and no other besides the usual ones.
//!
//! What fails ends the test, with what the page showed.

// Tests end by panicking; what this crate has is only ever part of one.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open browser; dropped, it ends.
pub struct Browser {
    /// For what is not offered here.
    pub client: Client,
    driver: Child,
    _home: TempDir,
}

impl Browser {
    /// Opens one of that size, in light or dark, that trusts `authority` (PEM).
    pub async fn open(authority: &str, width: u32, height: u32, dark: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        trust(&home, authority);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver can't be started: apt-get install chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver ended").unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // It goes on speaking; nobody who listens would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = home.path().join("profile");
        let words = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--window-size={width},{height}"),
        ];
        let mut words = words.to_vec();
        if dark {
            words.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut options = json!({ "args": words, "binary": "/usr/bin/chromium" });
        if width < 500 {
            // A window has a least width; a phone is smaller.
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": width, "height": height, "pixelRatio": 2.0 } });
        }
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium starts");
        Self { client, driver, _home: home }
    }

    /// Closes it.
    pub async fn close(mut self) {
        self.client.clone().close().await.unwrap();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }

    /// Goes to an address, as if it was typed.
    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// The element, once it is there.
    pub async fn find(&self, css: &str) -> Element {
        match self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}; the page shows:\n{}", self.text().await),
        }
    }

    /// Whether the element is there now.
    pub async fn has(&self, css: &str) -> bool {
        !self.client.find_all(Locator::Css(css)).await.unwrap().is_empty()
    }

    /// Clicks on the element, once it is there.
    pub async fn click(&self, css: &str) {
        let end = Instant::now() + PATIENCE;
        // What was found may be drawn anew before it is clicked.
        while let Err(error) = self.find(css).await.click().await {
            assert!(Instant::now() < end, "{css}: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes into a field, in place of what is in it.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        element.clear().await.unwrap();
        element.send_keys(text).await.unwrap();
    }

    /// All that the page shows.
    pub async fn text(&self) -> String {
        let text = self.client.execute("return document.body.innerText", vec![]).await.unwrap();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows `words`.
    pub async fn shows(&self, words: &str) {
        self.until(words, true).await;
    }

    /// Waits until it no longer does.
    pub async fn shows_no(&self, words: &str) {
        self.until(words, false).await;
    }

    async fn until(&self, words: &str, expected: bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text().await;
            if text.contains(words) == expected {
                return;
            }
            assert!(Instant::now() < end, "{words:?} ({expected}) did not come; the page shows:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a script returns.
    pub async fn script(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap()
    }

    /// The path of the address that is shown.
    pub async fn path(&self) -> String {
        self.client.current_url().await.unwrap().path().to_owned()
    }

    /// A picture, for people to look at.
    pub async fn picture(&self, name: &str) {
        // What comes into view has come.
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::write(format!("/tmp/desktop-{name}.png"), self.client.screenshot().await.unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a panic: nobody else ends it, and the browser ends with it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A database of certificates that browsers started with this home use.
fn trust(home: &TempDir, authority: &str) {
    let folder = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&folder).unwrap();
    let database = format!("sql:{}", folder.display());
    let run = |words: &[&str], input: &str| {
        let mut certutil = Command::new("certutil")
            .args(["-d", &database])
            .args(words)
            .stdin(Stdio::piped())
            .spawn()
            .expect("certutil can't be started: apt-get install libnss3-tools");
        certutil.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(certutil.wait().unwrap().success(), "certutil {words:?}");
    };
    run(&["-N", "--empty-password"], "");
    run(&["-A", "-n", "atoll", "-t", "C,,", "-a"], authority);
}
