//! Certificates by ACME for the Ingresses and Gateways that ask for them.
//!
//! What is wanted comes from the gateway's own reading of them; what is done about
//! it the `acme` crate plans. Here it is carried out, and everybody told.

mod keep;
pub mod metrics;
mod publish;
mod settings;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use acme::account::Account;
use acme::issued::{Issued, validity_of_der};
use acme::plan::{Decision, History, Key, Planned, Present, Time, Wanted, plan};
use api::names::{ACME_CONFIG, SYSTEM_NAMESPACE};
use futures::StreamExt;
use gateway::index::certificates::{self, WantedCertificate};
use gateway::object::{Id, Kind};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch as latest;
use tokio::task::JoinSet;

use metrics::Metrics;
use settings::Settings;
use tell::Telling;

/// Orders that are carried out at a time.
const AT_ONCE: usize = 4;
/// For one order.
const WITHIN: Duration = Duration::from_secs(180);
/// It is looked again at least so often: clocks are set.
const SELDOM: Duration = Duration::from_secs(3600);
/// After something could not be read or written.
const AGAIN: Duration = Duration::from_secs(30);
/// Between two tries to get an account, which doubles.
const ACCOUNT: Duration = Duration::from_secs(60);
const ACCOUNT_LONGEST: Duration = Duration::from_secs(12 * 3600);

/// How an order has ended.
struct Done {
    planned: Planned,
    owner: (Kind, Id),
    result: Result<Issued, acme::Error>,
}

struct Controller {
    client: Client,
    settings: Settings,
    account: Option<Account>,
    /// Tries to get an account that have failed, and when it is tried again.
    accounts: (u32, Option<tokio::time::Instant>),
    history: History,
    telling: Telling,
    metrics: Arc<Metrics>,
    orders: JoinSet<Done>,
    /// What is being ordered, and for which hosts.
    busy: BTreeMap<Key, Vec<String>>,
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().try_into().unwrap_or(Time::MAX)
}

/// Orders nothing as long as no ConfigMap says how.
pub async fn run(
    client: Client,
    mut wanted: latest::Receiver<Vec<WantedCertificate>>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let named = watcher::Config::default().fields(&format!("metadata.name={ACME_CONFIG}"));
    let configs = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut configs = Box::pin(watcher(configs, named).default_backoff());
    let mut controller: Option<Controller> = None;
    let mut there = false;
    let mut next = tokio::time::Instant::now() + SELDOM;
    loop {
        let finished = async {
            match controller.as_mut().map(|controller| &mut controller.orders) {
                Some(orders) if !orders.is_empty() => orders.join_next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            event = configs.next() => {
                let config = match event {
                    Some(Ok(watcher::Event::Apply(config) | watcher::Event::InitApply(config))) => {
                        there = true;
                        Some(config)
                    }
                    Some(Ok(watcher::Event::Init)) => { there = false; continue }
                    Some(Ok(watcher::Event::InitDone)) if there => continue,
                    Some(Ok(watcher::Event::InitDone | watcher::Event::Delete(_))) => None,
                    Some(Err(error)) => { tracing::warn!(%error, "watching the settings of ACME"); continue }
                    None => anyhow::bail!("the watch of ACME's settings ended"),
                };
                controller = configure(&client, config.as_ref(), controller, &metrics).await;
            }
            changed = wanted.changed() => changed?,
            Some(done) = finished => {
                if let (Some(controller), Ok(done)) = (controller.as_mut(), done) {
                    controller.finish(done).await;
                }
            }
            () = tokio::time::sleep_until(next) => {}
        }
        let Some(controller) = controller.as_mut() else {
            next = tokio::time::Instant::now() + SELDOM;
            continue;
        };
        let all = wanted.borrow_and_update().clone();
        next = tokio::time::Instant::now()
            + match controller.look(&all).await {
                Ok(wait) => wait.min(SELDOM),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "certificates by ACME");
                    AGAIN
                }
            };
    }
}

/// What goes on with other settings; orders that are under way are let go, and count.
async fn configure(
    client: &Client,
    config: Option<&ConfigMap>,
    before: Option<Controller>,
    metrics: &Arc<Metrics>,
) -> Option<Controller> {
    let settings = match Settings::read(config?) {
        Ok(settings) => settings,
        Err(reason) => {
            tracing::error!(
                reason,
                "ConfigMap {ACME_CONFIG} of {SYSTEM_NAMESPACE}: no certificate is ordered"
            );
            return None;
        }
    };
    if let Some(before) = before.filter(|before| before.settings == settings) {
        return Some(before);
    }
    // Without what was tried before, an authority might be hammered: wait for it.
    let history = loop {
        let read = async {
            publish::clear(client).await?;
            keep::history(client).await
        };
        match read.await {
            Ok(history) => break history,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "reading what ACME has tried"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    tracing::info!(
        directory = settings.directory.url,
        proof = settings.proof.as_str(),
        "certificates by ACME"
    );
    Some(Controller {
        client: client.clone(),
        settings,
        account: None,
        accounts: (0, None),
        history,
        telling: Telling::new(client.clone()),
        metrics: metrics.clone(),
        orders: JoinSet::new(),
        busy: BTreeMap::new(),
    })
}

fn key(secret: &Id) -> Key {
    Key { namespace: secret.namespace.to_string(), secret: secret.name.to_string() }
}

/// At which Gateway's address alone an owner has its hosts; None: at the shared one.
fn place(one: &WantedCertificate) -> Option<&Id> {
    (one.owner.0 == Kind::Gateway).then_some(&one.owner.1)
}

/// What is ordered, and what is not because its Secret is wanted at another address, too.
/// An order is proven at one address: at another one its hosts may be somebody else's.
fn by_place(all: &[WantedCertificate]) -> (Vec<&WantedCertificate>, Vec<&WantedCertificate>) {
    let mut places = BTreeMap::new();
    all.iter().partition(|one| *places.entry(&one.secret).or_insert_with(|| place(one)) == place(one))
}

/// What the plan is made of.
fn facts(all: &[&WantedCertificate]) -> (Vec<Wanted>, BTreeMap<Key, Present>) {
    let mut wanted = Vec::with_capacity(all.len());
    let mut present = BTreeMap::new();
    for one in all {
        let key = key(&one.secret);
        match &one.present {
            certificates::Present::Missing => None,
            certificates::Present::Foreign => present.insert(key.clone(), Present::Foreign),
            certificates::Present::Ours(leaf) => {
                present.insert(key.clone(), Present::Ours(validity_of_der(leaf)))
            }
        };
        wanted.push(Wanted { key, workspace: one.workspace.clone(), hosts: one.hosts.clone() });
    }
    (wanted, present)
}

impl Controller {
    /// Begins what is due; how long to wait until it is looked again.
    async fn look(&mut self, all: &[WantedCertificate]) -> anyhow::Result<Duration> {
        let (all, elsewhere) = by_place(all);
        let (wanted, present) = facts(&all);
        let now = now();
        let plan = plan(&wanted, &present, &self.history, self.settings.limits, now);
        let valid = present.values().filter_map(|present| match present {
            Present::Ours(Some(validity)) => Some(validity.not_after),
            Present::Ours(None) | Present::Foreign => None,
        });
        self.metrics.earliest_expiry.store(valid.min().unwrap_or(0), Ordering::Relaxed);
        let missing = plan.certificates.iter().filter(|one| !one.served && one.decision != Decision::Never);
        self.metrics.missing.store(missing.count() as u64, Ordering::Relaxed);
        let due = plan.certificates.iter().any(|one| one.decision == Decision::Order);
        if due && !self.ready().await? {
            return Ok(self.accounts.1.map_or(AGAIN, |at| at.duration_since(tokio::time::Instant::now())));
        }
        let mut owners: BTreeMap<Key, Vec<&WantedCertificate>> = BTreeMap::new();
        for one in all {
            owners.entry(key(&one.secret)).or_default().push(one);
        }
        self.telling.forget(|key| owners.contains_key(key));
        for one in elsewhere {
            let text = "its Secret is wanted at another address, too: give it one of its own";
            self.telling.tell(&one.owner, &key(&one.secret), ("CertificateRefused", text)).await;
        }
        for planned in &plan.certificates {
            let owners = owners.get(&planned.key).map(Vec::as_slice).unwrap_or_default();
            let Some(first) = owners.first() else { continue };
            if self.busy.contains_key(&planned.key) {
                continue;
            }
            if planned.decision == Decision::Order {
                // Two orders of one host could share its proof.
                let mut busy = self.busy.values().flatten();
                if self.orders.len() >= AT_ONCE || busy.any(|host| planned.hosts.contains(host)) {
                    continue;
                }
                if keep::is_foreign(&self.client, &planned.key).await? {
                    // The gateways haven't heard of it yet, or can't serve its type.
                    let text = "a Secret of that name is there and was not made by ACME: it is left as it is";
                    self.telling.tell(&first.owner, &planned.key, ("CertificateRefused", text)).await;
                    continue;
                }
                self.begin(planned, &first.owner).await?;
            }
            for one in owners {
                self.telling.planned(&one.owner, planned, &one.lost).await;
            }
        }
        Ok(plan.next.map_or(SELDOM, |at| Duration::from_secs(u64::try_from(at - now).unwrap_or(1).max(1))))
    }

    /// Whether there is an account to order with.
    async fn ready(&mut self) -> anyhow::Result<bool> {
        if self.account.is_some() {
            return Ok(true);
        }
        if self.accounts.1.is_some_and(|at| at > tokio::time::Instant::now()) {
            return Ok(false);
        }
        match keep::account(&self.client, &self.settings).await {
            Ok(account) => {
                self.account = Some(account);
                self.accounts = (0, None);
                Ok(true)
            }
            Err(error) => {
                let wait = ACCOUNT.saturating_mul(1 << self.accounts.0.min(10)).min(ACCOUNT_LONGEST);
                self.accounts = (self.accounts.0 + 1, Some(tokio::time::Instant::now() + wait));
                tracing::warn!(error = format!("{error:#}"), again = wait.as_secs(), "no account for ACME");
                Ok(false)
            }
        }
    }

    async fn begin(&mut self, planned: &Planned, owner: &(Kind, Id)) -> anyhow::Result<()> {
        let Some(account) = self.account.clone() else { return Ok(()) };
        // Written down first: who dies over it begins with a wait.
        self.history.begun(&planned.key, &planned.workspace, &planned.hosts, now());
        keep::save(&self.client, &self.history).await?;
        self.busy.insert(planned.key.clone(), planned.hosts.clone());
        let gateway = (owner.0 == Kind::Gateway).then(|| owner.1.clone());
        let publisher = publish::Gateways { client: self.client.clone(), gateway };
        let (planned, owner, proof) = (planned.clone(), owner.clone(), self.settings.proof);
        tracing::info!(certificate = %planned.key, hosts = planned.hosts.join(","), "ordering a certificate");
        self.orders.spawn(async move {
            let result = acme::order::order(&account, &planned.hosts, proof, &publisher, WITHIN).await;
            Done { planned, owner, result }
        });
        Ok(())
    }

    async fn finish(&mut self, done: Done) {
        let Done { planned, owner, result } = done;
        let key = &planned.key;
        self.busy.remove(key);
        let retry_after = result.as_ref().err().and_then(acme::Error::retry_after);
        let kept = match result {
            Ok(issued) => keep::certificate(&self.client, key, &owner, &issued)
                .await
                .map(|()| issued.validity.clone())
                .map_err(|error| format!("it was issued and could not be kept: {error:#}")),
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(validity) => {
                self.metrics.issued.fetch_add(1, Ordering::Relaxed);
                tracing::info!(certificate = %key, until = tell::date(validity.not_after), "got a certificate");
                self.history.succeeded(key, now());
                self.telling.got(&owner, &planned, &validity).await;
            }
            Err(reason) => {
                self.metrics.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(certificate = %key, reason, "a certificate was not had");
                let until = retry_after.and_then(|seconds| now().checked_add_unsigned(seconds));
                self.history.failed(key, &reason, until, now());
            }
        }
        self.history.tidy(|other| self.telling.knows(other), now());
        if let Err(error) = keep::save(&self.client, &self.history).await {
            tracing::warn!(error = format!("{error:#}"), "writing down what ACME has tried");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_reads_is_what_is_planned() {
        let one = |present| WantedCertificate {
            owner: (Kind::Ingress, Id::new("shop", "web")),
            secret: Id::new("shop", "web-tls"),
            workspace: "w".to_owned(),
            hosts: vec!["a.example".to_owned()],
            lost: Vec::new(),
            present,
        };
        let key = Key { namespace: "shop".into(), secret: "web-tls".into() };
        let present = |present| facts(&[&one(present)]).1.remove(&key);
        assert_eq!(present(certificates::Present::Missing), None);
        assert_eq!(present(certificates::Present::Foreign), Some(Present::Foreign));
        assert_eq!(present(certificates::Present::Ours(vec![1])), Some(Present::Ours(None)));
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let Some(Present::Ours(Some(validity))) =
            present(certificates::Present::Ours(made.cert.der().to_vec()))
        else {
            panic!("a certificate that can be read");
        };
        assert!(validity.hosts.contains("a.example"));
        let (wanted, _) = facts(&[&one(certificates::Present::Missing)]);
        assert_eq!((wanted[0].key.clone(), wanted[0].workspace.as_str()), (key, "w"));
    }

    #[test]
    fn a_gateways_hosts_are_not_proven_at_the_shared_address() {
        let one = |kind, name: &str, secret: &str| WantedCertificate {
            owner: (kind, Id::new("shop", name)),
            secret: Id::new("shop", secret),
            workspace: "w".to_owned(),
            hosts: vec![format!("{name}.example")],
            lost: Vec::new(),
            present: certificates::Present::Missing,
        };
        let all = [
            one(Kind::Ingress, "web", "both"),
            one(Kind::Ingress, "www", "both"),
            one(Kind::Gateway, "door", "both"),
            one(Kind::Gateway, "door", "own"),
            one(Kind::Gateway, "gate", "own"),
        ];
        let (ordered, elsewhere) = by_place(&all);
        let names = |all: Vec<&WantedCertificate>| {
            all.iter().map(|one| format!("{}:{}", one.owner.1.name, one.secret.name)).collect::<Vec<_>>()
        };
        assert_eq!(names(ordered), ["web:both", "www:both", "door:own"]);
        assert_eq!(names(elsewhere), ["door:both", "gate:own"]);
    }
}
