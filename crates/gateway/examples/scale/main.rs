//! What a change costs beside many routes, from the API server's event to the
//! first answer by it; how long a cold start takes; and what a steady load feels
//! of it. An API server of our own, so that nothing else is measured:
//! `cargo run --release -p gateway --example scale -- 100 1000 10000 20000c 100000`
//! (`c`: each host with a certificate of its own).

mod load;
mod server;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::MissedTickBehavior;

use load::{Client, Tally};
use server::Api;

/// As the shipped program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Changes that are measured one by one, with nothing else going on.
const QUIET: usize = 200;
/// Fifty changes in a second, every second one of which is measured.
const EVERY: Duration = Duration::from_millis(20);
const CHURN: Duration = Duration::from_secs(20);
/// So many clients ask this often each.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, api, http, snapshot] = words.as_slice()
        && role == "gateway"
    {
        return gateway(api, http.parse()?, snapshot).await;
    }
    println!(
        "routes | cold start | of a processor | resident, at most | CPU at rest | effect, quiet | effect, 50 changes/s | load | failed"
    );
    for word in &words {
        let (count, certificates) = match word.strip_suffix('c') {
            Some(count) => (count.parse()?, true),
            None => (word.parse()?, false),
        };
        measure(count, certificates).await?;
    }
    Ok(())
}

/// The gateway itself, in a process of its own.
async fn gateway(api: &str, http: SocketAddr, snapshot: &str) -> Result<()> {
    nix::sys::prctl::set_thp_disable(true)?;
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = gateway::Config {
        http,
        https: any,
        admin: any,
        snapshot: Some(snapshot.into()),
        ..gateway::Config::default()
    };
    let client = kube::Client::try_from(kube::Config::new(api.parse()?))?;
    Ok(gateway::run(client, config, std::future::pending()).await?)
}

async fn measure(count: usize, certificates: bool) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("atoll-scale-{}", std::process::id()));
    let backend = load::backend().await?;
    let api = Api::new(count, certificates, backend)?;
    let address = api.clone().serve().await?;
    let http = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["gateway", &format!("http://{address}"), &http.to_string()])
        .arg(&directory)
        .kill_on_drop(true)
        .spawn()?;
    let mut client = Client::connect(http).await;
    for host in [0, count - 1].map(server::host) {
        while client.get(&host).await != 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (cold, used) = (started.elapsed(), ticks(&child)? as f64 / TICKS);
    // The snapshot is written once more, and memory that is free is given back.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let busy = at_rest(&child).await?;
    let (resident, peak) = (memory(&child, "VmRSS:")?, memory(&child, "VmHWM:")?);

    let mut quiet = Tally::default();
    for number in 0..QUIET {
        quiet.add(effect(&api, &mut client, &format!("quiet-{number}")).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|seed| tokio::spawn(load::steady(http, count, seed, PAUSE, stop.clone()))).collect();
    let churn = churn(&api, http).await?;
    stop.store(true, Ordering::Relaxed);
    let mut steady = Tally::default();
    for client in clients {
        steady.join(client.await?);
    }
    println!(
        "{count}{} | {:.1} s | {used:.1} s | {resident}, {peak} MiB | {busy:.2} % | {quiet} | {churn} | {steady} | {} of {}",
        if certificates { ", with certificates" } else { "" },
        cold.as_secs_f64(),
        steady.failed,
        steady.count(),
    );
    child.kill().await?;
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}

/// A new host: how long from the event to the first answer by its route.
async fn effect(api: &Api, client: &mut Client, name: &str) -> Duration {
    let host = format!("{name}.new.test");
    let started = Instant::now();
    api.event("ADDED", name, &host);
    while client.get(&host).await != 200 {}
    started.elapsed()
}

/// Hosts come and go; how long the ones that came took.
async fn churn(api: &Arc<Api>, http: SocketAddr) -> Result<Tally> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut running = Vec::new();
    let mut number = 0_u32;
    while started.elapsed() < CHURN {
        ticks.tick().await;
        let (own, name) = (api.clone(), format!("churn-{number}"));
        running.push(tokio::spawn(async move {
            let mut client = Client::connect(http).await;
            effect(&own, &mut client, &name).await
        }));
        ticks.tick().await;
        if let Some(old) = number.checked_sub(50) {
            api.event("DELETED", &format!("churn-{old}"), &format!("churn-{old}.new.test"));
        }
        number += 1;
    }
    let mut tally = Tally::default();
    for change in running {
        tally.add(change.await?);
    }
    Ok(tally)
}

/// A line of the process' status, in MiB.
fn memory(child: &Child, name: &str) -> Result<usize> {
    let id = child.id().ok_or("the gateway has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in the status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? >> 10)
}

/// Percent of one processor, over some seconds without a change or a request.
async fn at_rest(child: &Child) -> Result<f64> {
    const SECONDS: u64 = 10;
    let before = ticks(child)?;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    Ok((ticks(child)? - before) as f64 / TICKS * 100.0 / SECONDS as f64)
}

/// In a second, on every Linux there is.
const TICKS: f64 = 100.0;

/// The time of a processor that a process has used.
fn ticks(child: &Child) -> Result<u64> {
    let id = child.id().ok_or("the gateway has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // After the name, which may hold anything: user and system time are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}
