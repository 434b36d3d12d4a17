//! Workspaces and apps: what is known comes from watches, and what is done goes
//! through front, with a token of the caller's own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use api::Role;
use api::http::{
    AccountView, AppView, Event, InputView, NewAccount, NewApp, NewWorkspace, Session, TemplateView,
    WorkspaceView,
};
use api::names::{APPS_DOMAIN, GATEWAY_CERTIFICATE};
use api::{Account, AccountSpec, Instance, Workspace, WorkspaceSpec};
use async_trait::async_trait;
use catalog::Template;
use catalog::install::{InstallError, install};
use front::directory::{Directory, Published};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use identity::ExposeSecret;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::AuthInfo;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config as ClientConfig, ResourceExt};
use server::Error;
use tokio::sync::{Mutex, broadcast};
use tokio_stream::wrappers::BroadcastStream;

use super::accounts::Accounts;

/// How long a client for a caller is used: less than its token lives.
const CLIENT_LIFETIME: Duration = Duration::from_secs(240);

/// What the server is told about its surroundings.
pub struct Config {
    pub front: String,
    /// The authority of front's certificate, in DER.
    pub authority: Vec<Vec<u8>>,
    pub templates: PathBuf,
    pub https_port: u16,
}

/// What happened, for whoever may see it.
#[derive(Clone, Debug)]
enum Change {
    Standing,
    Apps(String),
}

/// Workspaces, apps and the store.
pub struct Cloud {
    /// With the server's own rights: to make workspaces, and to watch.
    client: Client,
    accounts: Arc<Accounts>,
    directory: Arc<Published>,
    pub workspaces: Store<Workspace>,
    instances: Store<Instance>,
    changes: broadcast::Sender<Change>,
    counted: broadcast::Sender<String>,
    front: ClientConfig,
    clients: Mutex<HashMap<String, (Client, Instant)>>,
    templates: BTreeMap<String, Template>,
    port: String,
}

impl Cloud {
    /// The second value keeps it up to date, and never ends unless a watch does.
    pub fn new(
        client: Client,
        accounts: Arc<Accounts>,
        directory: Arc<Published>,
        config: Config,
        counted: broadcast::Sender<String>,
    ) -> anyhow::Result<(Self, impl Future<Output = anyhow::Result<()>> + use<>)> {
        let (changes, _) = broadcast::channel(256);
        let (workspaces, workspace_writer) = reflector::store();
        let (instances, instance_writer) = reflector::store();
        let watch_workspaces = watcher(Api::<Workspace>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .reflect(workspace_writer)
            .touched_objects();
        let watch_instances = watcher(Api::<Instance>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .reflect(instance_writer)
            .touched_objects();
        let (of_workspaces, of_instances, of_standings) = (changes.clone(), changes.clone(), changes.clone());
        let mut standings = directory.changes();
        let keep = async move {
            let workspaces = watch_workspaces.for_each(|_| async {
                // Nobody may be listening.
                let _ = of_workspaces.send(Change::Standing);
            });
            let instances = watch_instances.for_each(|instance| async {
                if let Some(namespace) = instance.ok().and_then(|instance| instance.namespace()) {
                    let _ = of_instances.send(Change::Apps(namespace));
                }
            });
            let standings = async {
                while standings.changed().await.is_ok() {
                    let _ = of_standings.send(Change::Standing);
                }
            };
            tokio::select! {
                () = workspaces => anyhow::bail!("the watch of workspaces ended"),
                () = instances => anyhow::bail!("the watch of apps ended"),
                () = standings => anyhow::bail!("the directory ended"),
            }
        };
        let mut front = ClientConfig::new(config.front.parse().context("front's address")?);
        front.root_cert = Some(config.authority);
        let cloud = Self {
            client,
            accounts,
            directory,
            workspaces,
            instances,
            changes,
            counted,
            front,
            clients: Mutex::default(),
            templates: load_templates(&config.templates)?,
            port: if config.https_port == 443 { String::new() } else { config.https_port.to_string() },
        };
        Ok((cloud, keep))
    }

    /// A client with the caller's own rights.
    async fn client_of(&self, caller: &Session) -> Result<Client, Error> {
        let mut clients = self.clients.lock().await;
        clients.retain(|_, (_, made)| made.elapsed() < CLIENT_LIFETIME);
        if let Some((client, _)) = clients.get(&caller.account) {
            return Ok(client.clone());
        }
        let token = self.accounts.own_token(&caller.account).await?;
        let mut config = self.front.clone();
        config.auth_info =
            AuthInfo { token: Some(token.expose_secret().to_owned().into()), ..AuthInfo::default() };
        let client = Client::try_from(config).map_err(|error| Error::Internal(error.to_string()))?;
        clients.insert(caller.account.clone(), (client.clone(), Instant::now()));
        Ok(client)
    }

    fn namespace(&self, caller: &Session, workspace: &str) -> Result<String, Error> {
        self.membership(caller, workspace)
            .and_then(|(namespace, _)| namespace)
            .ok_or_else(|| Error::Unavailable(format!("the workspace {workspace} is still being made")))
    }

    /// What the caller is in a workspace, and its namespace where there is one.
    fn membership(&self, caller: &Session, workspace: &str) -> Option<(Option<String>, Role)> {
        let found = self.workspaces.get(&ObjectRef::new(workspace))?;
        let role = role_in(&self.directory, caller, &found)?;
        Some((found.status.as_ref().and_then(|status| status.namespace.clone()), role))
    }

    fn view(&self, caller: &Session, workspace: &Workspace) -> Option<WorkspaceView> {
        let name = workspace.name_any();
        let (namespace, role) = self.membership(caller, &name)?;
        let status = workspace.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        Some(WorkspaceView {
            name,
            display_name: workspace.spec.display_name.clone(),
            namespace,
            owner: workspace.spec.owner.clone(),
            role,
            parent: workspace.spec.parent.clone(),
            ready: ready.is_some_and(|ready| ready.status == "True"),
            message: match ready {
                Some(ready) if ready.status != "True" => ready.message.clone(),
                Some(_) => String::new(),
                None => "it is being made".into(),
            },
        })
    }

    fn app(&self, instance: &Instance) -> AppView {
        let status = instance.status.clone().unwrap_or_default();
        let port = if self.port.is_empty() { String::new() } else { format!(":{}", self.port) };
        AppView {
            name: instance.name_any(),
            template: instance.spec.template.clone(),
            title: instance.spec.title.clone(),
            ready: status.ready.unwrap_or_default(),
            addresses: status.addresses.iter().map(|address| format!("{address}{port}")).collect(),
            removing: instance.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// What the caller is in a workspace; nothing for whom it isn't there.
fn role_in(directory: &Published, caller: &Session, workspace: &Workspace) -> Option<Role> {
    let standing = directory.account(&caller.account)?;
    match standing.workspaces.get(&workspace.name_any()) {
        Some(place) => Some(place.role),
        None => (workspace.spec.owner == caller.account || standing.operator).then_some(Role::Owner),
    }
}

fn account_view(account: &Account) -> AccountView {
    let AccountSpec { display_name, operator, disabled, .. } = account.spec.clone();
    AccountView { name: account.name_any(), display_name, operator, disabled }
}

fn taken(name: &str) -> Error {
    Error::Taken { field: "name".into(), detail: format!("the name {name} is taken: choose another") }
}

/// What Kubernetes said, in the caller's words.
fn refused(what: &str) -> impl FnOnce(kube::Error) -> Error {
    let what = what.to_owned();
    move |error| match error {
        kube::Error::Api(status) => match status.code {
            403 => Error::Forbidden(format!("{what}: {}", status.message)),
            404 => Error::NotFound(format!("{what}: {}", status.message)),
            429 | 500.. => Error::Unavailable(format!("{what}: {}", status.message)),
            _ => Error::Invalid { field: None, detail: format!("{what}: {}", status.message) },
        },
        other => Error::Unavailable(format!("{what}: {other}")),
    }
}

#[async_trait]
impl server::backend::Cloud for Cloud {
    async fn role(&self, caller: &Session, workspace: &str) -> Result<Option<Role>, Error> {
        Ok(self.membership(caller, workspace).map(|(_, role)| role))
    }

    async fn accounts(&self, caller: &Session) -> Result<Vec<AccountView>, Error> {
        let accounts: Api<Account> = Api::all(self.client_of(caller).await?);
        let found = accounts.list(&ListParams::default()).await.map_err(refused("listing accounts"))?;
        Ok(found.iter().map(account_view).collect())
    }

    async fn create_account(&self, caller: &Session, new: NewAccount) -> Result<AccountView, Error> {
        // First what may be refused; the password of an account that was there is
        // never touched.
        let hash = self.accounts.hash(new.password.into()).await?;
        let spec = AccountSpec { display_name: new.display_name, ..AccountSpec::default() };
        let accounts: Api<Account> = Api::all(self.client_of(caller).await?);
        match accounts.create(&PostParams::default(), &Account::new(&new.name, spec)).await {
            Ok(made) => {
                self.accounts.set_password(&new.name, hash).await?;
                Ok(account_view(&made))
            }
            Err(kube::Error::Api(answer)) if answer.code == 409 => Err(taken(&new.name)),
            Err(error) => Err(refused("making the account")(error)),
        }
    }

    async fn workspaces(&self, caller: &Session) -> Result<Vec<WorkspaceView>, Error> {
        let mut views: Vec<_> =
            self.workspaces.state().iter().filter_map(|workspace| self.view(caller, workspace)).collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(views)
    }

    async fn create_workspace(&self, caller: &Session, new: NewWorkspace) -> Result<WorkspaceView, Error> {
        let accounts: Api<Account> = Api::all(self.client.clone());
        let found = accounts.get_opt(&caller.account).await.map_err(refused("looking the account up"))?;
        let limit = found.map_or(0, |account| account.spec.workspace_limit());
        let owned = self.workspaces.state().iter().filter(|one| one.spec.owner == caller.account).count();
        // Of two at the same moment the controller says which fits.
        if !caller.operator && u32::try_from(owned).is_ok_and(|owned| owned >= limit) {
            return Err(Error::Forbidden(format!(
                "you own {owned} workspaces and may own {limit}: delete one, or ask an operator for more"
            )));
        }
        let spec = WorkspaceSpec {
            owner: caller.account.clone(),
            display_name: new.display_name,
            ..WorkspaceSpec::default()
        };
        let workspaces: Api<Workspace> = Api::all(self.client.clone());
        match workspaces.create(&PostParams::default(), &Workspace::new(&new.name, spec)).await {
            Ok(made) => Ok(WorkspaceView {
                name: new.name,
                display_name: made.spec.display_name.clone(),
                namespace: None,
                owner: caller.account.clone(),
                role: Role::Owner,
                parent: None,
                ready: false,
                message: "it is being made".into(),
            }),
            Err(kube::Error::Api(answer)) if answer.code == 409 => Err(taken(&new.name)),
            Err(error) => Err(refused("making the workspace")(error)),
        }
    }

    async fn apps(&self, caller: &Session, workspace: &str) -> Result<Vec<AppView>, Error> {
        let Some((Some(namespace), _)) = self.membership(caller, workspace) else { return Ok(Vec::new()) };
        let state = self.instances.state();
        let own = state.iter().filter(|instance| instance.namespace().as_ref() == Some(&namespace));
        let mut apps: Vec<_> = own.map(|instance| self.app(instance)).collect();
        apps.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(apps)
    }

    async fn install(&self, caller: &Session, workspace: &str, new: NewApp) -> Result<AppView, Error> {
        let template = self.templates.get(&new.template).ok_or_else(|| Error::Invalid {
            field: Some("template".into()),
            detail: format!("the store has no template {}: choose one of the list", new.template),
        })?;
        let context = catalog::Context {
            namespace: self.namespace(caller, workspace)?,
            domain: APPS_DOMAIN.into(),
            port: self.port.clone(),
            certificate_secret: GATEWAY_CERTIFICATE.into(),
            service_account: "default".into(),
        };
        let client = self.client_of(caller).await?;
        let mut random = rand::random::<u64>;
        let instance = install(&client, template, &new.inputs, &context, &mut random).await;
        instance.map(|instance| self.app(&instance)).map_err(install_error)
    }

    async fn uninstall(&self, caller: &Session, workspace: &str, name: &str) -> Result<(), Error> {
        let namespace = self.namespace(caller, workspace)?;
        let instances: Api<Instance> = Api::namespaced(self.client_of(caller).await?, &namespace);
        match instances.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                Err(Error::NotFound(format!("there is no app {name} in {workspace}")))
            }
            Err(error) => Err(refused("removing the app")(error)),
        }
    }

    async fn templates(&self, _: &Session) -> Result<Vec<TemplateView>, Error> {
        Ok(self.templates.values().map(template_view).collect())
    }

    fn changes(&self, caller: &Session) -> BoxStream<'static, Event> {
        let (workspaces, directory, caller) =
            (self.workspaces.clone(), self.directory.clone(), caller.clone());
        // A workspace's name, if the caller may know it.
        let visible = move |found: Option<Arc<Workspace>>| {
            let found = found?;
            role_in(&directory, &caller, &found).map(|_| found.name_any())
        };
        let by_namespace = Arc::new(move |namespace: &str| {
            visible(workspaces.find(|workspace| {
                workspace.status.as_ref().and_then(|status| status.namespace.as_deref()) == Some(namespace)
            }))
        });
        let of_usage = {
            let by_namespace = by_namespace.clone();
            BroadcastStream::new(self.counted.subscribe()).map(move |namespace| match namespace {
                Ok(namespace) => Ok(by_namespace(&namespace).map(|workspace| Event::Usage { workspace })),
                Err(lagged) => Err(lagged),
            })
        };
        let of_cloud = BroadcastStream::new(self.changes.subscribe()).map(move |change| match change {
            Ok(Change::Standing) => Ok(Some(Event::Workspaces)),
            Ok(Change::Apps(namespace)) => {
                Ok(by_namespace(&namespace).map(|workspace| Event::Apps { workspace }))
            }
            Err(lagged) => Err(lagged),
        });
        // Whoever can't follow loses count: the stream ends and begins again.
        let both = stream::select(of_cloud, of_usage);
        both.take_while(|change| std::future::ready(change.is_ok()))
            .filter_map(|change| std::future::ready(change.ok().flatten()))
            .boxed()
    }
}

fn install_error(error: InstallError) -> Error {
    match error {
        InstallError::Template(error) => {
            let field = error.input().map(|input| format!("inputs.{input}"));
            let detail = match &error {
                // The command's words would not help on a page.
                catalog::Error::MissingInput { name, .. } => format!("{name} is required: fill it in"),
                other => other.to_string(),
            };
            Error::Invalid { field, detail }
        }
        InstallError::Exists(name) => Error::Taken {
            field: "inputs.app_name".into(),
            detail: format!("there is an app {name} already: uninstall it first"),
        },
        InstallError::ClusterScoped(what) => {
            Error::Invalid { field: None, detail: InstallError::ClusterScoped(what).to_string() }
        }
        InstallError::Kubernetes { action, cause } => refused(&action)(*cause),
    }
}

fn template_view(template: &Template) -> TemplateView {
    TemplateView {
        name: template.name().into(),
        title: template.about().title.clone(),
        description: template.about().description.clone(),
        inputs: template
            .inputs()
            .iter()
            .map(|input| InputView {
                name: input.name.clone(),
                description: input.description.clone(),
                kind: match input.kind.name() {
                    "float" => "number",
                    kind => kind,
                }
                .into(),
                default: (!input.default.is_empty()).then(|| input.default.clone()),
                required: input.required,
                options: input.options.clone(),
            })
            .collect(),
    }
}

fn load_templates(folder: &Path) -> anyhow::Result<BTreeMap<String, Template>> {
    let mut templates = BTreeMap::new();
    let reading = || format!("reading the store's templates in {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).with_context(reading)?;
            let template = Template::parse(&text).with_context(|| format!("{}", path.display()))?;
            templates.insert(template.name().to_owned(), template);
        }
    }
    Ok(templates)
}
