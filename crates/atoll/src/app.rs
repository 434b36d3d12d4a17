//! `atoll app`: installs apps from templates, lists and removes them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::names::{APPS_DOMAIN, GATEWAY_CERTIFICATE, INSTANCE_LABEL};
use api::{Instance, Workspace};
use installer::apply;
use installer::progress::Progress;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};

use crate::arguments::{App, AppPlace, Common, Output};
use crate::cluster::port;
use crate::terminal::Terminal;
use crate::{block_on, login, packages};

/// How long an app may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(300);

pub fn run(common: &Common, command: App) -> anyhow::Result<ExitCode> {
    match command {
        App::Install { file, set, place, no_wait, output } => {
            let source =
                std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            // The template is read first: a bad one needs no cluster to say so.
            let template =
                catalog::Template::parse(&source).with_context(|| format!("{}", file.display()))?;
            root_if_needed(&place)?;
            block_on(install(common, &template, set, &place, no_wait, output))
        }
        App::List { place, output } => {
            root_if_needed(&place)?;
            block_on(list(common, &place, output))
        }
        App::Uninstall { app, place, keep_data } => {
            root_if_needed(&place)?;
            block_on(uninstall(common, &app, &place, keep_data))
        }
    }
}

/// Outside workspaces only the administrator installs apps.
fn root_if_needed(place: &AppPlace) -> anyhow::Result<()> {
    if place.workspace.is_some() { Ok(()) } else { packages::become_root() }
}

/// Where an app is, and by whom it is asked for.
struct Target {
    client: Client,
    namespace: String,
    https: u16,
}

async fn target(common: &Common, place: &AppPlace) -> anyhow::Result<Target> {
    let Some(workspace) = &place.workspace else {
        let directory = common.place().directory();
        let record = directory.load()?.ok_or_else(|| installer::Error::NoCluster(common.name.clone()))?;
        let client = apply::client(&directory.kubeconfig()).await?;
        return Ok(Target { client, namespace: place.namespace.clone(), https: record.ports.https });
    };
    let (client, access) = login::client(common, place.account.as_deref()).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let own = workspaces.list(&ListParams::default()).await.context("listing your workspaces")?;
    let found = own.iter().find(|one| one.name_any() == *workspace);
    let found = found.with_context(|| {
        format!("you have no workspace `{workspace}`: `atoll workspace list` shows those you have")
    })?;
    let namespace = found.status.as_ref().and_then(|status| status.namespace.clone());
    let namespace = namespace.with_context(|| format!("`{workspace}` is still being made: try again"))?;
    Ok(Target { client, namespace, https: access.https })
}

/// Randomness for templates, from the operating system.
struct SystemRandom;

impl catalog::Random for SystemRandom {
    fn next(&mut self) -> u64 {
        rand::random()
    }
}

async fn install(
    common: &Common,
    template: &catalog::Template,
    set: Vec<(String, String)>,
    place: &AppPlace,
    no_wait: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let target = target(common, place).await?;
    let values: BTreeMap<String, String> = set.into_iter().collect();
    let context = catalog::Context {
        namespace: target.namespace.clone(),
        domain: APPS_DOMAIN.into(),
        port: port(target.https).trim_start_matches(':').into(),
        certificate_secret: GATEWAY_CERTIFICATE.into(),
        service_account: "default".into(),
    };
    let terminal = Terminal::new();
    terminal.step(&format!("installing {}", template.name()));
    let installed =
        catalog::install::install(&target.client, template, &values, &context, &mut SystemRandom).await?;
    let name = installed.name_any();
    let instances: Api<Instance> = Api::namespaced(target.client.clone(), &target.namespace);
    if !no_wait {
        terminal.step(&format!("waiting until {name} is ready"));
        wait(&instances, &name, &terminal).await?;
    }
    terminal.finish();
    let instance = instances.get(&name).await.context("reading the app back")?;
    if output != Output::Table {
        output.print(&with_port(instance, target.https))?;
    } else {
        println!("App {name} is installed.");
        for address in with_port(instance, target.https).status.unwrap_or_default().addresses {
            println!("  {address}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Addresses as they are typed on this machine: with the forwarded port.
fn with_port(mut instance: Instance, https: u16) -> Instance {
    if let Some(status) = &mut instance.status {
        for address in &mut status.addresses {
            address.push_str(&port(https));
        }
    }
    instance
}

async fn wait(instances: &Api<Instance>, name: &str, progress: &dyn Progress) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let instance = instances.get(name).await.with_context(|| format!("reading the app {name}"))?;
        let generation = instance.metadata.generation;
        let status = instance.status.unwrap_or_default();
        let ready = status.ready.clone().unwrap_or_default();
        let done = ready.split_once('/').is_some_and(|(ready, wanted)| ready == wanted);
        if done && status.observed_generation == generation {
            return Ok(());
        }
        progress.update(&format!("{ready} workloads are ready"), None, None);
        if started.elapsed() > READY_LIMIT {
            bail!(
                "{name} is not ready after {} s ({ready} workloads are): see `kubectl get pods -l {INSTANCE_LABEL}={name}`",
                READY_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn list(common: &Common, place: &AppPlace, output: Output) -> anyhow::Result<ExitCode> {
    let target = target(common, place).await?;
    let instances: Api<Instance> = match place.workspace {
        Some(_) => Api::namespaced(target.client, &target.namespace),
        None => Api::all(target.client),
    };
    let found = instances.list(&ListParams::default()).await.context("listing apps")?;
    let found: Vec<Instance> = found.into_iter().map(|instance| with_port(instance, target.https)).collect();
    if output != Output::Table {
        output.print(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24} {:<16} {:<20} {:<8} ADDRESS", "APP", "NAMESPACE", "TEMPLATE", "READY");
    for instance in found {
        let status = instance.status.clone().unwrap_or_default();
        println!(
            "{:<24} {:<16} {:<20} {:<8} {}",
            instance.name_any(),
            instance.namespace().unwrap_or_default(),
            instance.spec.template,
            status.ready.unwrap_or_default(),
            status.addresses.join(" ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn uninstall(
    common: &Common,
    name: &str,
    place: &AppPlace,
    keep_data: bool,
) -> anyhow::Result<ExitCode> {
    let Target { client, namespace, .. } = &target(common, place).await?;
    let instances: Api<Instance> = Api::namespaced(client.clone(), namespace);
    if instances.get_opt(name).await.context("reading the app")?.is_none() {
        bail!("there is no app `{name}` in namespace {namespace}: `atoll app list` shows those there are");
    }
    let terminal = Terminal::new();
    terminal.step(&format!("removing {name}"));
    // Everything the template made is owned by the instance and goes before it.
    instances.delete(name, &DeleteParams::foreground()).await.context("deleting the app")?;
    let started = Instant::now();
    while instances.get_opt(name).await.context("reading the app")?.is_some() {
        if started.elapsed() > READY_LIMIT {
            bail!(
                "{name} is still being removed after {} s: see `kubectl get all -l {INSTANCE_LABEL}={name}`",
                READY_LIMIT.as_secs()
            );
        }
        terminal.update("waiting for its objects to go", None, None);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if !keep_data {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let own = ListParams::default().labels(&format!("{INSTANCE_LABEL}={name}"));
        claims.delete_collection(&DeleteParams::default(), &own).await.context("deleting its volumes")?;
    }
    terminal.finish();
    println!("App {name} is removed.");
    Ok(ExitCode::SUCCESS)
}
