//! The gateway gets certificates from a real ACME server, by both challenges.

#![allow(clippy::unwrap_used)]

mod server;
#[path = "../serve/world.rs"]
#[allow(dead_code)]
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme::account::{Account, Credentials};
use acme::issued::Issued;
use acme::order::{Challenge, Proof, Publisher, order};
use acme::plan::{Decision, History, Key, Limits, Present, Wanted, plan};
use async_trait::async_trait;
use gateway::object::{Id, Object, Secret};
use gateway::table::Table;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use server::Pebble;
use world::World;

const WITHIN: Duration = Duration::from_secs(60);

/// Shows challenges at this process's gateway, or forgets to.
struct Gateway {
    table: Arc<Table>,
    shows: bool,
    seen: Mutex<Vec<String>>,
}

impl Gateway {
    fn of(world: &World, shows: bool) -> Self {
        Self { table: world.table.clone(), shows, seen: Mutex::default() }
    }

    fn seen(&self) -> Vec<String> {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        seen
    }
}

#[async_trait]
impl Publisher for Gateway {
    async fn publish(&self, challenge: &Challenge) -> Result<(), String> {
        self.seen.lock().unwrap().push(format!("+{}", challenge.host));
        let Challenge { host, token, key_authorization } = challenge.clone();
        let served = gateway::challenge::Challenge { host, token, key_authorization, gateway: None };
        self.table.challenges.set(&challenge.token, Some(served).filter(|_| self.shows));
        Ok(())
    }

    async fn withdraw(&self, challenge: &Challenge) {
        self.seen.lock().unwrap().push(format!("-{}", challenge.host));
        self.table.challenges.set(&challenge.token, None);
    }
}

fn hosts(all: &[&str]) -> Vec<String> {
    all.iter().map(|host| (*host).to_owned()).collect()
}

/// Gives the gateway what was issued, as a Secret of a workspace.
fn keep(world: &mut World, name: &str, issued: &Issued) {
    let certificate = issued.chain.clone().into_bytes().into();
    let key = issued.expose_key().to_owned().into_bytes().into();
    world.index.apply(Object::Secret(Secret { id: Id::new("a", name), certificate, key, acme: true }));
}

/// The certificate that a host shows to a client that believes the server's root.
async fn served(world: &World, pebble: &Pebble, host: &str) -> std::io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(pebble.roots().await)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.https()).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_challenges_lead_to_a_certificate_that_is_served() {
    let mut world = World::start().await;
    let pebble = Pebble::start(&world).await;
    let (account, credentials) =
        Account::register(&pebble.directory, Some("operator@example.com")).await.unwrap();
    // Nothing behind it, and nothing in clear text: neither is in a challenge's way.
    let annotations = [("force-ssl-redirect", "true")];
    for (name, proof) in [("one", Proof::Http01), ("two", Proof::TlsAlpn01)] {
        let names = hosts(&[&format!("{name}.example.com"), &format!("www.{name}.example.com")]);
        names.iter().for_each(|host| world.ingress(name, host, &annotations, true));
        assert!(served(&world, &pebble, &names[1]).await.is_err(), "nobody vouches for it yet");
        let gateway = Gateway::of(&world, true);
        let issued = order(&account, &names, proof, &gateway, WITHIN).await.unwrap();
        assert!(issued.validity.hosts.iter().eq(&names));
        let seen = gateway.seen();
        for host in &names {
            assert!(seen.contains(&format!("+{host}")) && seen.contains(&format!("-{host}")), "{seen:?}");
        }
        keep(&mut world, &format!("{name}-tls"), &issued);
        served(&world, &pebble, &names[1]).await.unwrap();
    }
    // Another process goes on with the account.
    let kept = Credentials::new(credentials.expose().to_owned());
    assert_eq!(kept.directory().as_ref(), Some(&pebble.directory.url));
    let account = Account::restore(&pebble.directory, &kept).await.unwrap();
    let gateway = Gateway::of(&world, true);
    order(&account, &hosts(&["three.example.com"]), Proof::Http01, &gateway, WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_its_end_and_served_at_once() {
    let mut world = World::start().await;
    let pebble = Pebble::start(&world).await;
    let (account, _) = Account::register(&pebble.directory, None).await.unwrap();
    let names = hosts(&["shop.example.com"]);
    world.ingress("web", &names[0], &[], true);
    let key = Key { namespace: "a".into(), secret: "web-tls".into() };
    let wanted = [Wanted { key: key.clone(), workspace: "w".into(), hosts: names.clone() }];
    let decide = |issued: Option<&Issued>, now| {
        let present = issued.map(|issued| (key.clone(), Present::Ours(Some(issued.validity.clone()))));
        let present: BTreeMap<_, _> = present.into_iter().collect();
        plan(&wanted, &present, &History::default(), Limits::default(), now).certificates.remove(0).decision
    };
    assert_eq!(decide(None, 0), Decision::Order);
    let gateway = Gateway::of(&world, true);
    let first = order(&account, &names, Proof::Http01, &gateway, WITHIN).await.unwrap();
    keep(&mut world, "web-tls", &first);
    let before = served(&world, &pebble, &names[0]).await.unwrap();
    let (from, to) = (first.validity.not_before, first.validity.not_after);
    let renewal = to - (to - from) / 3;
    assert_eq!(decide(Some(&first), from), Decision::Wait(renewal));
    assert_eq!(decide(Some(&first), renewal), Decision::Order);
    let second = order(&account, &names, Proof::TlsAlpn01, &gateway, WITHIN).await.unwrap();
    keep(&mut world, "web-tls", &second);
    let after = served(&world, &pebble, &names[0]).await.unwrap();
    assert_ne!(before, after);
    assert_ne!(first.expose_key(), second.expose_key(), "a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_is_told_why() {
    let world = World::start().await;
    let pebble = Pebble::start(&world).await;
    let (account, _) = Account::register(&pebble.directory, None).await.unwrap();
    let forgetful = Gateway::of(&world, false);
    for (proof, kind) in [(Proof::Http01, "unauthorized"), (Proof::TlsAlpn01, "tls")] {
        let names = hosts(&["shop.example.com"]);
        let error = order(&account, &names, proof, &forgetful, WITHIN).await.unwrap_err().to_string();
        assert!(error.contains("shop.example.com") && error.contains(kind), "{proof:?}: {error}");
        let seen = forgetful.seen();
        assert!(seen.contains(&"-shop.example.com".to_owned()), "withdrawn also then: {seen:?}");
    }
    let blocked = hosts(&["blocked.example.com"]);
    let error = order(&account, &blocked, Proof::Http01, &forgetful, WITHIN).await.unwrap_err().to_string();
    assert!(error.contains("rejectedIdentifier"), "{error}");
    let shows = Gateway::of(&world, true);
    let names = hosts(&["a.example.com"]);
    let late = order(&account, &names, Proof::Http01, &shows, Duration::from_millis(1)).await;
    assert_eq!(late.unwrap_err().to_string(), "the order was not done within 0 seconds");
    let stranger = acme::account::Directory { roots: String::new(), ..pebble.directory.clone() };
    let error = Account::register(&stranger, None).await.err().unwrap().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_proven_is_not_anothers() {
    let world = World::start().await;
    let pebble = Pebble::start(&world).await;
    let (account, _) = Account::register(&pebble.directory, None).await.unwrap();
    let names = hosts(&["shop.example.com", "www.shop.example.com"]);
    let shows = Gateway::of(&world, true);
    order(&account, &names, Proof::Http01, &shows, WITHIN).await.unwrap();
    // The next one has the host in name only.
    let forgetful = Gateway::of(&world, false);
    for names in [&names[..], &names[1..]] {
        let error = order(&account, names, Proof::Http01, &forgetful, WITHIN).await.unwrap_err().to_string();
        assert!(error.contains("unauthorized"), "{error}");
    }
    order(&account, &names, Proof::Http01, &shows, WITHIN).await.unwrap();
}
