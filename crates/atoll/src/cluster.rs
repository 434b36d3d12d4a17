//! `up`, `down`, `status` and `kubeconfig`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use identity::ExposeSecret;
use installer::cluster::{self, Options};
use installer::image::{self, Store};
use installer::machine::PROGRAMS;
use installer::progress::Progress;
use installer::record;

use crate::arguments::{Common, Output, Up};
use crate::terminal::Terminal;
use crate::{account, block_on, login, packages};

pub fn up(common: &Common, up: &Up) -> anyhow::Result<ExitCode> {
    record::check_name(&common.name)?;
    packages::become_root()?;
    packages::ensure(&PROGRAMS, up.no_install)?;
    let store = common.store()?;
    if let (Some(wanted), Some(record)) = (&up.image, common.place().directory().load()?) {
        same_image(&store, wanted, &record)?;
    }
    let chosen = up.admin_password_stdin.then(|| login::password(account::ADMIN, true)).transpose()?;
    let terminal = Terminal::new();
    let options = Options {
        place: common.place(),
        nodes: up.nodes,
        https_port: up.https_port,
        http_port: up.http_port,
        api_port: up.api_port,
        front_port: up.front_port,
    };
    let choose = || choose_image(common, &store, up, &terminal);
    let result = block_on(async { Ok(cluster::up(&options, &store, choose, &terminal).await?) });
    terminal.finish();
    let outcome = result?;
    let password = block_on(account::ensure_admin(common, chosen.map(Into::into)))?;
    let record = &outcome.record;
    let took = outcome.took.as_secs_f64();
    if outcome.changed {
        println!("Cluster {} is ready after {took:.0} s.", record.name);
    } else {
        println!("Cluster {} is well; nothing was to do.", record.name);
    }
    println!();
    println!("  desktop     https://{}{}", api::names::DESKTOP_HOST, port(record.ports.https));
    if let Some(made) = password {
        println!("  account     {}", account::ADMIN);
        if let Some(password) = made {
            println!("  password    {} (shown this once)", password.expose_secret());
        }
    }
    println!("  apps        https://<app>.{}{}", api::names::APPS_DOMAIN, port(record.ports.https));
    println!("  kubernetes  export KUBECONFIG={}", common.place().directory().kubeconfig().display());
    println!("  accounts    atoll account create NAME; atoll workspace create NAME --owner ACCOUNT");
    println!("  an app      atoll app install examples/hello.yaml");
    println!("  browsers    atoll trust");
    Ok(ExitCode::SUCCESS)
}

/// A cluster keeps its image: another one is refused rather than passed over.
fn same_image(store: &Store, wanted: &str, record: &record::Record) -> anyhow::Result<()> {
    let file = Path::new(wanted);
    let image = if file.is_file() { store.load(file)? } else { store.find(wanted)? };
    if image.digest.to_string() == record.image {
        return Ok(());
    }
    bail!(
        "cluster {} stands on the image {}, not on {wanted}: leave --image out, or run `atoll down` first",
        record.name,
        record.image
    );
}

/// `:8443`, or nothing for the port that https has anyway.
pub fn port(port: u16) -> String {
    if port == 443 { String::new() } else { format!(":{port}") }
}

fn choose_image(
    common: &Common,
    store: &Store,
    up: &Up,
    progress: &dyn Progress,
) -> installer::Result<image::Image> {
    let Some(wanted) = &up.image else {
        return crate::image::build_default(common, store, up.no_install, progress);
    };
    if Path::new(wanted).is_file() {
        progress.step(&format!("loading {wanted}"));
        return Ok(store.load(Path::new(wanted))?);
    }
    Ok(store.find(wanted)?)
}

pub fn down(common: &Common) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    let terminal = Terminal::new();
    let result = cluster::down(&common.place(), &terminal);
    terminal.finish();
    result?;
    println!("Cluster {} is gone.", common.name);
    Ok(ExitCode::SUCCESS)
}

pub fn status(common: &Common, output: Output) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    let status = block_on(async { Ok(cluster::status(&common.place()).await?) })?;
    let code = if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output != Output::Table {
        output.print(&status)?;
        return Ok(code);
    }
    let verdict = if status.ready { "ready" } else { "not ready" };
    println!("Cluster {} is {verdict}.", status.cluster.name);
    println!("  desktop     https://{}{}", api::names::DESKTOP_HOST, port(status.cluster.ports.https));
    println!("  apps        https://<app>.{}{}", api::names::APPS_DOMAIN, port(status.cluster.ports.https));
    println!("  kubernetes  https://127.0.0.1:{}", status.cluster.ports.front);
    if !status.forwarding {
        println!("  ports       not forwarded: `atoll up` repairs it");
    }
    for node in &status.nodes {
        match node.pid {
            Some(pid) => println!("  node        {} at {} (pid {pid})", node.name, node.address),
            None => println!("  node        {} doesn't run: `atoll up` starts it", node.name),
        }
    }
    if let Some(problem) = &status.problem {
        println!("  problem     {problem}");
    }
    for part in &status.parts {
        let mark = if part.is_ready() { "ready" } else { "waiting" };
        println!("  {mark:<11} {part}");
    }
    Ok(code)
}

/// The administrator's kubeconfig.
pub fn kubeconfig(common: &Common) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    let path = common.place().directory().kubeconfig();
    if common.place().directory().load()?.is_none() {
        bail!(installer::Error::NoCluster(common.name.clone()));
    }
    print!("{}", std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
    Ok(ExitCode::SUCCESS)
}
