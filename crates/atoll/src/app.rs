//! `atoll app`: installs apps from templates, lists and removes them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::names::{APPS_DOMAIN, GATEWAY_CERTIFICATE, INSTANCE_LABEL};
use api::{Instance, InstanceSpec};
use installer::apply;
use installer::progress::Progress;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};

use crate::arguments::{App, Common, Output};
use crate::cluster::port;
use crate::terminal::Terminal;
use crate::{block_on, packages};

/// How long an app may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(300);

pub fn run(common: &Common, command: App) -> anyhow::Result<ExitCode> {
    match command {
        App::Install { file, set, namespace, no_wait, output } => {
            let source =
                std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            // The template is read first: a bad one needs no cluster to say so.
            let template =
                catalog::Template::parse(&source).with_context(|| format!("{}", file.display()))?;
            packages::become_root()?;
            block_on(install(common, &template, set, &namespace, no_wait, output))
        }
        App::List { output } => {
            packages::become_root()?;
            block_on(list(common, output))
        }
        App::Uninstall { app, namespace, keep_data } => {
            packages::become_root()?;
            block_on(uninstall(common, &app, &namespace, keep_data))
        }
    }
}

async fn client(common: &Common) -> anyhow::Result<(Client, installer::record::Record)> {
    let directory = common.place().directory();
    let record = directory.load()?.ok_or_else(|| installer::Error::NoCluster(common.name.clone()))?;
    Ok((apply::client(&directory.kubeconfig()).await?, record))
}

/// Randomness for templates, from the operating system.
struct SystemRandom(rand::rngs::ThreadRng);

impl catalog::Random for SystemRandom {
    fn next(&mut self) -> u64 {
        rand::Rng::random(&mut self.0)
    }
}

async fn install(
    common: &Common,
    template: &catalog::Template,
    set: Vec<(String, String)>,
    namespace: &str,
    no_wait: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (client, record) = client(common).await?;
    let values: BTreeMap<String, String> = set.into_iter().collect();
    let context = catalog::Context {
        namespace: namespace.into(),
        domain: APPS_DOMAIN.into(),
        port: port(record.ports.https).trim_start_matches(':').into(),
        certificate_secret: GATEWAY_CERTIFICATE.into(),
        service_account: "default".into(),
    };
    let mut app = template.evaluate(&values, &context, &mut SystemRandom(rand::rng()))?;
    catalog::check_supported(&app)?;

    let terminal = Terminal::new();
    terminal.step(&format!("installing {}", app.name));
    let instances: Api<Instance> = Api::namespaced(client.clone(), namespace);
    let mut instance = Instance::new(
        &app.name,
        InstanceSpec {
            template: template.name().into(),
            title: template.about().title.clone(),
            objects: catalog::references(&app),
        },
    );
    instance.metadata.namespace = Some(namespace.into());
    instance.labels_mut().insert(INSTANCE_LABEL.into(), app.name.clone());
    let parameters = PatchParams::apply(apply::FIELD_MANAGER).force();
    let stored = instances
        .patch(&app.name, &parameters, &Patch::Apply(&instance))
        .await
        .with_context(|| format!("recording the app {}", app.name))?;
    let uid = stored.uid().unwrap_or_default();
    catalog::claim(&mut app, &uid);
    apply::apply(&client, &app.objects, namespace, &terminal).await?;

    if !no_wait {
        terminal.step(&format!("waiting until {} is ready", app.name));
        wait(&instances, &app.name, &terminal).await?;
    }
    terminal.finish();
    let instance = instances.get(&app.name).await.context("reading the app back")?;
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&with_port(instance, record.ports.https))?);
    } else {
        println!("App {} is installed.", app.name);
        for address in with_port(instance, record.ports.https).status.unwrap_or_default().addresses {
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

async fn list(common: &Common, output: Output) -> anyhow::Result<ExitCode> {
    let (client, record) = client(common).await?;
    let found = Api::<Instance>::all(client).list(&ListParams::default()).await.context("listing apps")?;
    let found: Vec<Instance> =
        found.into_iter().map(|instance| with_port(instance, record.ports.https)).collect();
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&found)?);
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
    namespace: &str,
    keep_data: bool,
) -> anyhow::Result<ExitCode> {
    let (client, _) = client(common).await?;
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
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, namespace);
        let own = ListParams::default().labels(&format!("{INSTANCE_LABEL}={name}"));
        claims.delete_collection(&DeleteParams::default(), &own).await.context("deleting its volumes")?;
    }
    terminal.finish();
    println!("App {name} is removed.");
    Ok(ExitCode::SUCCESS)
}
