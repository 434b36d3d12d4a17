//! The gateway under attack: what a backend sees is what was routed, whatever was
//! sent. `cargo xtask fuzz` runs the same with more requests and another seed.

#![allow(clippy::unwrap_used)]

mod backend;
mod client;
mod http1;
mod http2;
mod ingress;
mod matcher;
mod replay;
mod strict;
#[allow(dead_code)]
#[path = "../serve/world.rs"]
mod world;

use std::sync::atomic::Ordering;

use world::World;

/// A number from the environment, by which `cargo xtask fuzz` asks for more.
pub fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

pub fn seed() -> u64 {
    asked("ATOLL_FUZZ_SEED", 1)
}

/// Routed requests that were answered with this class of status.
fn counted(world: &World, class: &str) -> u64 {
    let text = world.metrics.render(&world.table);
    let code = format!("code=\"{class}\"}} ");
    let lines = text.lines().filter(|line| line.starts_with("atoll_gateway_route_requests_total{"));
    lines.filter_map(|line| line.split_once(&code)?.1.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_sees_is_what_was_routed() {
    let requests = asked("ATOLL_FUZZ_REQUESTS", 20_000);
    let mut world = World::start().await;
    let seen = backend::apps(&mut world).await;
    let mut tally = client::run(world.http(), &seen, seed(), requests * 4 / 5).await;
    tally.add(http2::run(world.http(), &seen, seed(), requests / 5).await);
    tally.print();
    // Whoever left early is counted when the gateway notices.
    let (http, https) = (world.http.take(), world.https.take());
    drop((http, https));
    world.server.drain(std::time::Duration::from_secs(30)).await;
    let wrongs = seen.wrongs.lock().unwrap();
    assert!(
        wrongs.is_empty(),
        "{} wrong, the first: {}",
        wrongs.len(),
        wrongs[..wrongs.len().min(5)].join("\n")
    );
    // Only the apps answer with 200, and see no request that was not routed.
    let (served, good) = (seen.requests.load(Ordering::Relaxed), counted(&world, "2xx"));
    let lost = counted(&world, "4xx") + counted(&world, "5xx");
    assert!(good <= served && served <= good + lost, "{good} of {served} were answered, {lost} were not");
}
