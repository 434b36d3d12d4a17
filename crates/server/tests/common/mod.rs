//! A cloud in memory, behind the traits that the server asks.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use api::Role;
use api::http::{
    AccountView, AppView, Event, InputView, IssuedToken, Login, NewAccount, NewApp, NewWorkspace,
    TemplateView, WorkspaceView,
};
use api::usage::{Bill, Meter, UsageLine};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use server::Error;
use server::backend::{Accounts, Backends, Caller, Cloud, Money, Period};
use server::session::{SessionHash, SessionRecord, SessionStore};
use tokio::sync::broadcast;

pub const PASSWORD: &str = "correct horse battery";

/// Ada owns `shop` and may look at Eve's `lab`; Eve owns `secret`, too. Olga
/// operates the cloud and owns nothing.
pub struct Memory {
    world: Mutex<World>,
    changes: broadcast::Sender<(String, Event)>,
    /// Whether the cloud is out of reach.
    pub broken: AtomicBool,
    /// Whether the cloud takes its time.
    pub slow: AtomicBool,
}

#[derive(Default)]
struct World {
    accounts: Vec<AccountView>,
    disabled: Vec<String>,
    sessions: BTreeMap<SessionHash, SessionRecord>,
    members: BTreeMap<(String, String), Role>,
    workspaces: BTreeMap<String, WorkspaceView>,
    apps: BTreeMap<String, Vec<AppView>>,
    charged: i64,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        let memory = Arc::new(Self {
            world: Mutex::default(),
            changes: broadcast::Sender::new(64),
            broken: AtomicBool::new(false),
            slow: AtomicBool::new(false),
        });
        for (name, title, owner) in
            [("shop", "The corner shop", "ada"), ("lab", "", "eve"), ("secret", "Nobody's business", "eve")]
        {
            memory.add_workspace(name, title, owner);
        }
        let mut world = memory.world();
        world.members.insert(("lab".to_owned(), "ada".to_owned()), Role::Viewer);
        world.charged = 3_482_100;
        drop(world);
        memory.add_app("shop", "wiki-ada", "wiki", "Wiki", "1/1");
        memory
    }

    pub fn backends(self: &Arc<Self>) -> Backends {
        Backends { accounts: self.clone(), sessions: self.clone(), cloud: self.clone(), money: self.clone() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn sessions(&self) -> BTreeMap<SessionHash, SessionRecord> {
        self.world().sessions.clone()
    }

    pub fn end_all_sessions(&self) {
        self.world().sessions.clear();
    }

    pub fn disable(&self, account: &str) {
        self.world().disabled.push(account.to_owned());
    }

    pub fn add_workspace(&self, name: &str, title: &str, owner: &str) -> WorkspaceView {
        let view = WorkspaceView {
            name: name.to_owned(),
            display_name: title.to_owned(),
            namespace: Some(format!("{name}-qzkvbm")),
            owner: owner.to_owned(),
            role: Role::Owner,
            parent: None,
            ready: true,
            message: String::new(),
        };
        let mut world = self.world();
        world.workspaces.insert(name.to_owned(), view.clone());
        world.members.insert((name.to_owned(), owner.to_owned()), Role::Owner);
        view
    }

    pub fn add_app(&self, workspace: &str, name: &str, template: &str, title: &str, ready: &str) -> AppView {
        let app = AppView {
            name: name.to_owned(),
            template: template.to_owned(),
            title: title.to_owned(),
            ready: ready.to_owned(),
            addresses: vec![format!("https://{name}.atollapps.localhost")],
            removing: false,
        };
        self.world().apps.entry(workspace.to_owned()).or_default().push(app.clone());
        self.tell(workspace, Event::Apps { workspace: workspace.to_owned() });
        app
    }

    /// As if Kubernetes had come so far.
    pub fn progress(&self, workspace: &str, name: &str, ready: &str) {
        for app in self.world().apps.get_mut(workspace).unwrap() {
            if app.name == name {
                ready.clone_into(&mut app.ready);
            }
        }
        self.tell(workspace, Event::Apps { workspace: workspace.to_owned() });
    }

    /// As if a minute had been charged.
    pub fn charge(&self, workspace: &str, micros: i64) {
        self.world().charged += micros;
        self.tell(workspace, Event::Usage { workspace: workspace.to_owned() });
    }

    fn tell(&self, workspace: &str, event: Event) {
        let _ = self.changes.send((workspace.to_owned(), event));
    }

    async fn reach(&self) -> Result<(), Error> {
        if self.slow.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::Internal("connection refused by 10.0.0.7".to_owned()));
        }
        Ok(())
    }
}

fn caller(account: &str) -> Option<Caller> {
    let display_name = match account {
        "ada" => "Ada Lovelace",
        "eve" => "Eve",
        "olga" => "Olga",
        _ => return None,
    };
    let operator = account == "olga";
    Some(Caller { account: account.to_owned(), display_name: display_name.to_owned(), operator })
}

#[async_trait]
impl Accounts for Memory {
    async fn authenticate(&self, login: &Login) -> Result<Option<Caller>, Error> {
        Ok(caller(&login.account).filter(|_| login.password == PASSWORD))
    }

    async fn verify_token(&self, token: &str) -> Result<Option<Caller>, Error> {
        Ok(token.strip_prefix("token-of-").and_then(caller))
    }

    async fn issue_token(&self, caller: &Caller) -> Result<IssuedToken, Error> {
        let token = format!("token-of-{}", caller.account);
        Ok(IssuedToken { account: caller.account.clone(), token, expires: 1_900_000_000 })
    }

    async fn account(&self, name: &str, _issued: u64) -> Result<Option<Caller>, Error> {
        Ok(caller(name).filter(|_| !self.world().disabled.contains(&name.to_owned())))
    }
}

#[async_trait]
impl SessionStore for Memory {
    async fn create(&self, hash: SessionHash, record: SessionRecord) -> Result<(), Error> {
        self.world().sessions.insert(hash, record);
        Ok(())
    }

    async fn get(&self, hash: SessionHash) -> Result<Option<SessionRecord>, Error> {
        Ok(self.world().sessions.get(&hash).cloned())
    }

    async fn touch(&self, hash: SessionHash, used: u64) -> Result<(), Error> {
        if let Some(record) = self.world().sessions.get_mut(&hash) {
            record.used = used;
        }
        Ok(())
    }

    async fn remove(&self, hash: SessionHash) -> Result<(), Error> {
        self.world().sessions.remove(&hash);
        Ok(())
    }
}

#[async_trait]
impl Cloud for Memory {
    async fn role(&self, caller: &Caller, workspace: &str) -> Result<Option<Role>, Error> {
        Ok(self.world().members.get(&(workspace.to_owned(), caller.account.clone())).copied())
    }

    async fn accounts(&self, _: &Caller) -> Result<Vec<AccountView>, Error> {
        self.reach().await?;
        Ok(self.world().accounts.clone())
    }

    async fn create_account(&self, _: &Caller, new: NewAccount) -> Result<AccountView, Error> {
        if new.password.len() < 8 {
            let detail = "a password needs 8 to 256 characters".to_owned();
            return Err(Error::Invalid { field: Some("password".to_owned()), detail });
        }
        let view =
            AccountView { name: new.name, display_name: new.display_name, operator: false, disabled: false };
        let accounts = &mut self.world().accounts;
        if accounts.iter().any(|account| account.name == view.name) {
            let detail = format!("the name {} is taken; choose another", view.name);
            return Err(Error::Taken { field: "name".to_owned(), detail });
        }
        accounts.push(view.clone());
        Ok(view)
    }

    async fn workspaces(&self, caller: &Caller) -> Result<Vec<WorkspaceView>, Error> {
        self.reach().await?;
        let world = self.world();
        let mine = world.workspaces.values().filter_map(|view| {
            let role = *world.members.get(&(view.name.clone(), caller.account.clone()))?;
            Some(WorkspaceView { role, ..view.clone() })
        });
        Ok(mine.collect())
    }

    async fn create_workspace(&self, caller: &Caller, new: NewWorkspace) -> Result<WorkspaceView, Error> {
        if self.world().workspaces.contains_key(&new.name) {
            return Err(Error::Taken {
                field: "name".to_owned(),
                detail: format!("the name {} is taken; choose another", new.name),
            });
        }
        let made = self.add_workspace(&new.name, &new.display_name, &caller.account);
        self.tell(&new.name, Event::Workspaces);
        Ok(made)
    }

    async fn apps(&self, _: &Caller, workspace: &str) -> Result<Vec<AppView>, Error> {
        self.reach().await?;
        Ok(self.world().apps.get(workspace).cloned().unwrap_or_default())
    }

    async fn install(&self, caller: &Caller, workspace: &str, new: NewApp) -> Result<AppView, Error> {
        let template = self.templates(caller).await?.into_iter().find(|one| one.name == new.template);
        let template = template.ok_or_else(|| Error::Invalid {
            field: Some("template".to_owned()),
            detail: format!("the store has no template {}; choose one that it has", new.template),
        })?;
        for input in &template.inputs {
            let value = new.inputs.get(&input.name);
            let invalid = |detail: &str| Error::Invalid {
                field: Some(format!("inputs.{}", input.name)),
                detail: format!("{} {detail}", input.name),
            };
            if input.required && input.default.is_none() && value.is_none_or(String::is_empty) {
                return Err(invalid("is missing; give it a value"));
            }
            // What only the cluster knows.
            if value.is_some_and(|value| value == "taken.example") {
                return Err(invalid("is used by another app; choose another"));
            }
        }
        Ok(self.add_app(workspace, &format!("{}-xkcd", new.template), &new.template, &template.title, "0/2"))
    }

    async fn uninstall(&self, _: &Caller, workspace: &str, name: &str) -> Result<(), Error> {
        let mut world = self.world();
        let apps = world.apps.entry(workspace.to_owned()).or_default();
        let before = apps.len();
        apps.retain(|app| app.name != name);
        if apps.len() == before {
            return Err(Error::NotFound(format!(
                "there is no app {name} in {workspace}; it may be gone already"
            )));
        }
        drop(world);
        self.tell(workspace, Event::Apps { workspace: workspace.to_owned() });
        Ok(())
    }

    async fn templates(&self, _: &Caller) -> Result<Vec<TemplateView>, Error> {
        self.reach().await?;
        let input = |name: &str, description: &str, kind: &str, default: Option<&str>, required| InputView {
            name: name.to_owned(),
            description: description.to_owned(),
            kind: kind.to_owned(),
            default: default.map(str::to_owned),
            required,
            options: Vec::new(),
        };
        let sizes = InputView {
            options: ["small", "medium", "large"].map(str::to_owned).to_vec(),
            ..input("size", "How much the database may hold.", "choice", Some("small"), false)
        };
        let template = |name: &str, title: &str, description: &str, inputs| TemplateView {
            name: name.to_owned(),
            title: title.to_owned(),
            description: description.to_owned(),
            inputs,
        };
        Ok(vec![
            template("board", "Board", "A board for notes and tasks that a team shares.", vec![]),
            template(
                "chat",
                "Chat",
                "Rooms to talk in, with files and search, for a team of its own.",
                vec![
                    input("host", "The name under which it answers.", "string", None, true),
                    input("admin_password", "For the first account.", "string", None, true),
                    input("replicas", "How many of it run.", "int", Some("2"), false),
                    sizes,
                    input("public", "Whether everybody may join.", "boolean", Some("true"), false),
                ],
            ),
            template("gallery", "Gallery", "Pictures in albums, shared by a link.", vec![]),
            template("wiki", "Wiki", "Pages that everybody can edit, with their history.", vec![]),
        ])
    }

    fn changes(&self, caller: &Caller) -> BoxStream<'static, Event> {
        let account = caller.account.clone();
        let members = self.world().members.clone();
        let receiver = self.changes.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await.ok()?, receiver))
        })
        .filter_map(move |(workspace, event)| {
            let mine = members.contains_key(&(workspace, account.clone())) || event == Event::Workspaces;
            async move { mine.then_some(event) }
        })
        .boxed()
    }
}

#[async_trait]
impl Money for Memory {
    async fn usage(&self, workspace: &str, period: Period) -> Result<Vec<UsageLine>, Error> {
        let bill = self.bill(workspace, period).await?;
        let halves = ["pod/wiki-ada-0", "volume/wiki-ada"].map(|name| {
            bill.lines
                .iter()
                .filter(move |line| {
                    (line.meter == Meter::StorageMebibyteSeconds) == name.starts_with("volume")
                })
                .map(move |line| UsageLine { name: name.to_owned(), ..line.clone() })
        });
        Ok(halves.into_iter().flatten().collect())
    }

    async fn bill(&self, workspace: &str, period: Period) -> Result<Bill, Error> {
        let total_micros = if workspace == "shop" { self.world().charged } else { 0 };
        let line = |meter, quantity, share: i64| UsageLine {
            name: String::new(),
            meter,
            quantity,
            charge_micros: total_micros * share / 100,
        };
        let lines = vec![
            line(Meter::CpuMicroseconds, 41_400_000_000, 55),
            line(Meter::MemoryMebibyteSeconds, 530_841_600, 28),
            line(Meter::StorageMebibyteSeconds, 3_779_136_000, 11),
            line(Meter::InternetSentBytes, 1_288_490_188, 6),
        ];
        Ok(Bill {
            workspace: workspace.to_owned(),
            from_minute: period.from / 60,
            to_minute: period.to / 60,
            currency: "EUR".to_owned(),
            lines: if total_micros == 0 { vec![] } else { lines },
            total_micros,
        })
    }
}
