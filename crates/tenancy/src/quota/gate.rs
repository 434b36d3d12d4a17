//! Asks for room before an object is stored.
//!
//! Each quota has a clerk, a task that enters all requests which wait in one write.
//! A refusal is by the book as it is stored at that moment, and only after what may
//! just be going has had a moment to go; while others' requests hold the rest, one
//! waits, and is told to try again when that takes long. Two gates may write the same
//! book: who comes second reads it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PartialObjectMeta, PostParams};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use api::SharedQuota;
use api::names::{SHARED_QUOTA_LABEL, SHARED_QUOTAS_ANNOTATION};

use super::amount::{Amounts, write};
use super::book::{Book, Outcome, Request};
use super::charge::Interest;
use super::expression::Fault;
use crate::review::{self, Request as Asked, Resource, Review};

/// How long it is waited for something to go that is there.
const FULL: Duration = Duration::from_secs(1);
/// How long it is waited for what becomes of others' requests.
const HELD: Duration = Duration::from_secs(4);

/// Why an object isn't admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(
        "the shared quota {quota} has no room: {resource}: {used} of {hard} are used, and this asks for {asked} more; delete something, or ask an operator for more"
    )]
    Full { quota: String, resource: String, used: String, hard: String, asked: String },
    #[error("the shared quota {quota} limits {names}: say in every container how much it needs")]
    Unsaid { quota: String, names: String },
    #[error("the shared quota {quota} measures {name}, and {fault}")]
    Unmeasured { quota: String, name: String, fault: Fault },
    #[error("other requests hold what is left of the shared quota {0}: try again")]
    Held(String),
    #[error("the shared quota {0} can't be asked just now: try again")]
    Unavailable(String),
}

impl review::Refusal for Refusal {
    // One that says "try again" is no refusal for quota.
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Full { .. } => (403, "Forbidden"),
            Self::Unsaid { .. } | Self::Unmeasured { .. } => (422, "Invalid"),
            Self::Held(_) => (429, "TooManyRequests"),
            Self::Unavailable(_) => (503, "ServiceUnavailable"),
        }
    }
}

/// What goes to a quota's clerk.
enum Message {
    Ask { request: Request, dry_run: bool, answer: oneshot::Sender<Result<(), Refusal>> },
    Cancel(String),
    Seen(Box<SharedQuota>),
}

/// Answers the API server's questions about what shared quotas count.
pub struct Gate {
    client: Client,
    quotas: Store<SharedQuota>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    clerks: Mutex<HashMap<String, mpsc::UnboundedSender<Message>>>,
    interest: watch::Sender<Interest>,
}

/// A gate, and its watches, which run until one of them ends.
pub fn new(client: Client) -> (Arc<Gate>, impl Future<Output = ()> + Send) {
    let (quotas, quota_writer) = reflector::store();
    let (namespaces, namespace_writer) = reflector::store();
    let gate = Arc::new(Gate {
        client: client.clone(),
        quotas,
        namespaces,
        clerks: Mutex::default(),
        interest: watch::Sender::new(Interest::default()),
    });
    let quotas = watcher(Api::<SharedQuota>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(quota_writer);
    let shared = watcher::Config::default().labels(SHARED_QUOTA_LABEL);
    let namespaces = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), shared)
        .default_backoff()
        .reflect(namespace_writer);
    let watching = {
        let gate = gate.clone();
        async move {
            tokio::select! {
                () = gate.clone().hear(quotas) => {}
                () = namespaces.for_each(|event| {
                    if let Err(error) = event {
                        tracing::warn!(%error, "watching namespaces");
                    }
                    futures::future::ready(())
                }) => {}
            }
        }
    };
    (gate, watching)
}

impl Gate {
    /// What has to be asked about: changes with the quotas.
    pub fn interest(&self) -> watch::Receiver<Interest> {
        self.interest.subscribe()
    }

    async fn hear(self: Arc<Self>, quotas: impl Stream<Item = watcher::Result<watcher::Event<SharedQuota>>>) {
        futures::pin_mut!(quotas);
        while let Some(event) = quotas.next().await {
            match event {
                Ok(watcher::Event::Apply(quota)) => {
                    let clerk = lock(&self.clerks).get(&quota.name_any()).cloned();
                    if let Some(clerk) = clerk {
                        // One that has ended looks for itself when it is made again.
                        let _ = clerk.send(Message::Seen(Box::new(quota)));
                    }
                }
                Ok(watcher::Event::Delete(quota)) => drop(lock(&self.clerks).remove(&quota.name_any())),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "watching shared quotas"),
            }
            let interest = Interest::of(self.quotas.state().iter().map(|quota| &quota.spec));
            self.interest.send_if_modified(|before| {
                let is_new = *before != interest;
                *before = interest;
                is_new
            });
        }
    }

    /// The answer to a question.
    pub async fn answer(&self, review: &Review) -> Value {
        let asked = &review.request;
        let verdict = self.ask(asked).await;
        if let Err(refusal) = &verdict {
            tracing::debug!(namespace = asked.namespace, %refusal, "not admitted");
        }
        review.answer(verdict)
    }

    async fn ask(&self, asked: &Asked) -> Result<(), Refusal> {
        let mut granted = Vec::new();
        for name in self.quotas_of(&asked.namespace).await? {
            let Some(quota) = self.quota(&name).await? else { continue };
            let result = match request(&name, &quota, asked) {
                Ok(None) => Ok(()),
                Ok(Some(request)) => {
                    granted.push((name.clone(), request.key.clone()));
                    self.reserve(&quota, request, asked.dry_run).await
                }
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = result {
                // It will not be stored: what the others gave is theirs again.
                let clerks = lock(&self.clerks);
                for (name, key) in granted {
                    if let Some(clerk) = clerks.get(&name) {
                        let _ = clerk.send(Message::Cancel(key));
                    }
                }
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// The quotas that a namespace has a part in, by what it says.
    async fn quotas_of(&self, namespace: &str) -> Result<Vec<String>, Refusal> {
        let known = self.namespaces.get(&ObjectRef::new(namespace));
        let said = match known {
            Some(known) => known.annotations().get(SHARED_QUOTAS_ANNOTATION).cloned(),
            None => {
                let namespaces: Api<Namespace> = Api::all(self.client.clone());
                let found = namespaces.get_metadata_opt(namespace).await;
                let found = found.map_err(|error| unavailable(namespace, &error))?;
                found.and_then(|found| found.annotations().get(SHARED_QUOTAS_ANNOTATION).cloned())
            }
        };
        let said = said.unwrap_or_default();
        Ok(said.split(',').filter(|name| !name.is_empty()).map(Into::into).collect())
    }

    async fn quota(&self, name: &str) -> Result<Option<SharedQuota>, Refusal> {
        if let Some(known) = self.quotas.get(&ObjectRef::new(name)) {
            return Ok(Some(SharedQuota::clone(&known)));
        }
        let quotas: Api<SharedQuota> = Api::all(self.client.clone());
        quotas.get_opt(name).await.map_err(|error| unavailable(name, &error))
    }

    async fn reserve(&self, quota: &SharedQuota, request: Request, dry_run: bool) -> Result<(), Refusal> {
        let name = quota.name_any();
        let (answer, answered) = oneshot::channel();
        let message = Message::Ask { request, dry_run, answer };
        let clerk = lock(&self.clerks)
            .entry(name.clone())
            .or_insert_with(|| {
                let (sender, inbox) = mpsc::unbounded_channel();
                let quotas = Api::all(self.client.clone());
                tokio::spawn(Clerk::new(quotas, quota.clone()).work(inbox));
                sender
            })
            .clone();
        let gone = || Refusal::Unavailable(name.clone());
        clerk.send(message).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds it can panic half way.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn unavailable(what: &str, error: &kube::Error) -> Refusal {
    tracing::warn!(%error, what, "asking for a shared quota");
    Refusal::Unavailable(what.to_owned())
}

/// What is asked of one quota; nothing when it counts nothing of this.
fn request(name: &str, quota: &SharedQuota, asked: &Asked) -> Result<Option<Request>, Refusal> {
    let interest = Interest::of([&quota.spec]);
    let Resource { group, resource } = &asked.resource;
    let kind = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
    let unsaid = interest.unsaid(&kind, &asked.object);
    let is_new = asked.old_object.is_null();
    if is_new && !unsaid.is_empty() {
        return Err(Refusal::Unsaid { quota: name.into(), names: unsaid.join(", ") });
    }
    // One that was that way before may change otherwise.
    let was_measured = is_new || interest.unmeasured(&kind, &asked.old_object).is_none();
    if was_measured && let Some((measure, fault)) = interest.unmeasured(&kind, &asked.object) {
        return Err(Refusal::Unmeasured { quota: name.into(), name: measure.into(), fault });
    }
    let total = interest.charge(&kind, &asked.object);
    let before = if is_new { Amounts::new() } else { interest.charge(&kind, &asked.old_object) };
    let mut more = total.clone();
    super::amount::subtract(&mut more, &before);
    more.retain(|_, amount| *amount > 0);
    if more.is_empty() {
        return Ok(None);
    }
    let metadata = &asked.object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let uid = text("uid");
    Ok(Some(Request {
        key: if is_new { uid.clone() } else { format!("{uid}.{}", asked.uid) },
        resource: kind,
        namespace: asked.namespace.clone(),
        name: text("name"),
        uid,
        total: (!is_new).then(|| total.into_iter().filter(|(name, _)| more.contains_key(name)).collect()),
        more,
    }))
}

/// A request that waits.
struct Waiting {
    request: Request,
    dry_run: bool,
    answer: oneshot::Sender<Result<(), Refusal>>,
    since: Instant,
    outcome: Outcome,
}

impl Waiting {
    fn until(&self) -> Instant {
        self.since + if self.outcome == Outcome::Held { HELD } else { FULL }
    }
}

struct Clerk {
    quotas: Api<SharedQuota>,
    name: String,
    quota: SharedQuota,
    waiting: Vec<Waiting>,
    cancelled: Vec<String>,
}

impl Clerk {
    fn new(quotas: Api<SharedQuota>, quota: SharedQuota) -> Self {
        Self { quotas, name: quota.name_any(), quota, waiting: Vec::new(), cancelled: Vec::new() }
    }

    /// Works until the quota is gone.
    async fn work(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            let soonest = self.waiting.iter().map(Waiting::until).min();
            let message = match soonest {
                Some(soonest) => tokio::time::timeout_at(soonest, inbox.recv()).await.ok(),
                None => Some(inbox.recv().await),
            };
            match message {
                Some(Some(message)) => self.take(message),
                Some(None) => break,
                None => {}
            }
            // Those that have come meanwhile are entered by the same write.
            while let Ok(message) = inbox.try_recv() {
                self.take(message);
            }
            self.enter().await;
            self.give_up();
        }
        // There is no such quota any more.
        for waiting in self.waiting {
            let _ = waiting.answer.send(Ok(()));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ask { request, dry_run, answer } => {
                let (since, outcome) = (Instant::now(), Outcome::Held);
                self.waiting.push(Waiting { request, dry_run, answer, since, outcome });
            }
            Message::Cancel(key) => self.cancelled.push(key),
            Message::Seen(quota) => {
                // What was written here may be told later than it was answered.
                let version = |quota: &SharedQuota| {
                    quota.resource_version().and_then(|version| version.parse::<u64>().ok())
                };
                if version(&quota) > version(&self.quota) || quota.uid() != self.quota.uid() {
                    self.quota = *quota;
                }
            }
        }
    }

    /// Enters what there is room for, and answers.
    async fn enter(&mut self) {
        let mut is_newest = false;
        loop {
            let mut book = Book::read(&self.quota);
            let mut is_changed = false;
            for key in &self.cancelled {
                is_changed |= book.cancel(key);
            }
            for waiting in &mut self.waiting {
                waiting.outcome = if waiting.dry_run {
                    book.clone().ask(&waiting.request)
                } else {
                    book.ask(&waiting.request)
                };
                is_changed |= waiting.outcome == Outcome::Granted && !waiting.dry_run;
            }
            if is_changed {
                let mut next = self.quota.clone();
                book.write_reserved(&mut next);
                match self.quotas.replace_status(&self.name, &PostParams::default(), &next).await {
                    Ok(stored) => {
                        self.quota = stored;
                        is_newest = true;
                    }
                    Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => {
                        match self.read().await {
                            Ok(true) => continue,
                            Ok(false) => return self.answer(|_| true, &Ok(())),
                            Err(refusal) => return self.answer(|_| true, &Err(refusal)),
                        }
                    }
                    Err(error) => {
                        let refusal = unavailable(&self.name, &error);
                        return self.answer(|outcome| *outcome == Outcome::Granted, &Err(refusal));
                    }
                }
            }
            self.cancelled.clear();
            self.answer(|outcome| *outcome == Outcome::Granted, &Ok(()));
            if self.waiting.is_empty() || is_newest {
                return;
            }
            // Nobody is refused by what was stored a while ago.
            match self.read().await {
                Ok(true) => is_newest = true,
                Ok(false) => return self.answer(|_| true, &Ok(())),
                Err(refusal) => return self.answer(|_| true, &Err(refusal)),
            }
        }
    }

    /// Reads the quota; whether it is still there.
    async fn read(&mut self) -> Result<bool, Refusal> {
        match self.quotas.get_opt(&self.name).await {
            Ok(Some(quota)) => {
                self.quota = quota;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(unavailable(&self.name, &error)),
        }
    }

    fn answer(&mut self, whom: impl Fn(&Outcome) -> bool, answer: &Result<(), Refusal>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if whom(&waiting.outcome) {
                // Who no longer waits is told nothing; its reservation ends by itself.
                let _ = waiting.answer.send(answer.clone());
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    /// Refuses those that have waited long enough.
    fn give_up(&mut self) {
        let now = Instant::now();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.until() > now {
                self.waiting.push(waiting);
                continue;
            }
            let refusal = match waiting.outcome {
                Outcome::Full { resource, hard, used, asked } => Refusal::Full {
                    quota: self.name.clone(),
                    resource,
                    used: write(used).0,
                    hard: write(hard).0,
                    asked: write(asked).0,
                },
                _ => Refusal::Held(self.name.clone()),
            };
            let _ = waiting.answer.send(Err(refusal));
        }
    }
}

/// The path of these questions.
pub const PATH: &str = "/quota";
/// The registration's name.
pub const NAME: &str = "atoll-quota";

/// The webhook as it is registered: asked about what the quotas count, in the namespaces
/// that share one.
pub fn registration(authority: &str, interest: &Interest) -> Value {
    let mut by_group: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in interest.kinds() {
        let (resource, group) = kind.split_once('.').unwrap_or((&kind, ""));
        by_group.entry(group.into()).or_default().push(resource.into());
    }
    let rule = |group: &str, resources: Vec<String>, operation: &str| {
        json!({
            "apiGroups": [group], "apiVersions": ["*"], "resources": resources,
            "operations": [operation], "scope": "Namespaced",
        })
    };
    let mut rules = Vec::new();
    for (group, resources) in by_group {
        // A pod as it is changed is asked about where it may grow.
        let grows = |resource: &String| {
            let kind = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
            let place = if kind == "pods" { "pods/resize".to_owned() } else { resource.clone() };
            interest.changes(&kind).then_some(place)
        };
        let growing: Vec<String> = resources.iter().filter_map(grows).collect();
        rules.push(rule(&group, resources, "CREATE"));
        if !growing.is_empty() {
            rules.push(rule(&group, growing, "UPDATE"));
        }
    }
    let more = json!({
        "namespaceSelector": { "matchExpressions": [
            { "key": api::names::WORKSPACE_LABEL, "operator": "Exists" },
            { "key": SHARED_QUOTA_LABEL, "operator": "Exists" },
        ] },
        "rules": rules,
        // A dry run reserves nothing.
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 10,
    });
    let webhook = review::webhook("quota.admission.atoll.dev", PATH, authority, more);
    // Without a quota there is nothing to ask.
    let webhooks = if interest.names.is_empty() { Vec::new() } else { vec![webhook] };
    review::registration("ValidatingWebhookConfiguration", NAME, &webhooks)
}

#[cfg(test)]
mod tests {
    use api::{Measure, SharedQuotaSpec};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::review::Refusal as _;

    fn quota(hard: &[(&str, &str)]) -> SharedQuota {
        let hard = hard.iter().map(|(name, most)| (name.to_string(), Quantity(most.to_string()))).collect();
        SharedQuota::new(
            "ada",
            SharedQuotaSpec { account: Some("ada".into()), hard, ..SharedQuotaSpec::default() },
        )
    }

    fn asked(object: &Value, old: &Value) -> Asked {
        let request = json!({
            "uid": "r-1", "namespace": "shop", "resource": { "group": "", "version": "v1", "resource": "services" },
            "object": object, "oldObject": old,
        });
        let review: Review = serde_json::from_value(json!({ "request": request })).unwrap();
        review.request
    }

    fn service(kind: &str, ports: usize) -> Value {
        json!({ "metadata": { "name": "s", "uid": "u" }, "spec": { "type": kind, "ports": vec![json!({}); ports] } })
    }

    #[test]
    fn a_new_object_asks_for_all_and_a_change_for_what_is_more() {
        let quota = quota(&[("services", "5"), ("services.nodeports", "5")]);
        let new = request("ada", &quota, &asked(&service("NodePort", 2), &Value::Null)).unwrap().unwrap();
        assert_eq!((new.key.as_str(), new.total), ("u", None));
        assert_eq!(new.more, Amounts::from([("services".into(), 1000), ("services.nodeports".into(), 2000)]));
        let change = asked(&service("NodePort", 3), &service("NodePort", 1));
        let change = request("ada", &quota, &change).unwrap().unwrap();
        assert_eq!(change.key, "u.r-1");
        assert_eq!(change.more, Amounts::from([("services.nodeports".into(), 2000)]));
        assert_eq!(change.total, Some(Amounts::from([("services.nodeports".into(), 3000)])));
        let less = asked(&service("ClusterIP", 1), &service("NodePort", 1));
        assert_eq!(request("ada", &quota, &less).unwrap(), None);
    }

    #[test]
    fn a_pod_that_does_not_say_what_it_needs_is_told_so() {
        let mut pod = asked(&json!({ "spec": { "containers": [{}] } }), &Value::Null);
        pod.resource.resource = "pods".into();
        let refusal = request("ada", &quota(&[("limits.memory", "1Gi")]), &pod).unwrap_err();
        assert_eq!(refusal.status(), (422, "Invalid"));
        assert!(refusal.to_string().contains("the shared quota ada limits limits.memory"), "{refusal}");
    }

    #[test]
    fn what_is_registered_is_what_is_counted() {
        assert_eq!(registration("pem", &Interest::default())["webhooks"], json!([]));
        let names = ["pods", "count/secrets", "count/widgets.example.com", "example.com/size"];
        let measure =
            Measure { resource: "widgets.example.com".into(), field: "spec.size".into(), expression: None };
        let mut limited = quota(&names.map(|name| (name, "1")));
        limited.spec.measures.insert("example.com/size".into(), measure);
        let interest = Interest::of([&limited.spec]);
        let registered = registration("pem", &interest);
        let webhook = &registered["webhooks"][0];
        assert_eq!(
            (&webhook["failurePolicy"], &webhook["sideEffects"]),
            (&json!("Fail"), &json!("NoneOnDryRun"))
        );
        let rules: Vec<String> = webhook["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| format!("{} {} {}", rule["apiGroups"][0], rule["resources"], rule["operations"][0]))
            .collect();
        assert_eq!(
            rules,
            [
                r#""" ["pods","secrets"] "CREATE""#,
                r#""" ["pods/resize"] "UPDATE""#,
                r#""example.com" ["widgets"] "CREATE""#,
                r#""example.com" ["widgets"] "UPDATE""#,
            ]
        );
    }
}
