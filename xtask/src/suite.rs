//! The end-to-end suite: two halves side by side, each with a cluster of its own, and
//! then the tests that compare the machine before and after, alone.
//!
//! Most of a test's time is waiting. The halves don't meet: the attacks take away what
//! protects their cluster, and others' tests stand on just that.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{atoll, cargo, run};

/// Where the tests' clusters are.
const STATE: &str = "/var/lib/atoll-e2e";

/// Tests of hostile tenants, and those that bring up what they need by themselves.
const APART: [&str; 3] = ["b_tenancy::", "d_interruption::", "e_refusals::"];
/// Tests that need the machine for themselves.
const ALONE: &str = "f_traces::";

/// Runs all of it, or the tests alone whose names contain some text.
///
/// # Errors
/// When a test failed, or a cluster didn't come up.
pub fn run_all(only: Option<&str>) -> anyhow::Result<()> {
    let mut built = tests();
    built.arg("--no-run");
    run(built)?;
    let result = match only {
        Some(only) => half("shared", &[only]),
        // They take the shared clusters down by themselves.
        None => side_by_side().and_then(|()| run(in_order(tests(), &[ALONE]))),
    };
    for cluster in ["shared", "tenants", "interrupted", "offline", "traces"] {
        down(cluster);
    }
    result
}

/// Each test is in exactly one of the halves, however many there come to be.
fn side_by_side() -> anyhow::Result<()> {
    let mut rest = Vec::new();
    for name in APART.iter().chain([&ALONE]) {
        rest.extend(["--skip", name]);
    }
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| half("tenants", &APART));
        let shared = half("shared", &rest);
        let apart = apart.join().unwrap_or_else(|_| bail!("the half `tenants` ended by a panic"));
        shared.and(apart)
    })
}

/// Brings a cluster up and runs tests on it, one at a time: some take it apart and see
/// it come back. What they print is told with the cluster's name before it.
fn half(cluster: &str, words: &[&str]) -> anyhow::Result<()> {
    told(cluster, atoll(&["--name", cluster, "--state", STATE, "up"]))?;
    let mut command = in_order(tests(), words);
    command.env("ATOLL_E2E_SHARED", cluster);
    told(cluster, command)
}

fn tests() -> Command {
    cargo(&["test", "--release", "--workspace", "--features", "e2e/cluster", "--test", "cluster"])
}

fn in_order(mut command: Command, words: &[&str]) -> Command {
    command.args(["--", "--test-threads=1"]).args(words);
    command
}

fn told(cluster: &str, mut command: Command) -> anyhow::Result<()> {
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    // Both into one pipe, so that what a test says stays where it belongs.
    let (read, write) = std::io::pipe().context("making a pipe for the tests' output")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(write.try_clone().context("sharing the pipe")?)
        .stderr(write)
        .spawn()
        .with_context(|| format!("starting {program:?}"))?;
    // It holds the pipe's other end too, which would never close.
    drop(command);
    for line in BufReader::new(read).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        println!("{cluster} | {}", String::from_utf8_lossy(&line));
    }
    let status = child.wait().with_context(|| format!("waiting for {program:?}"))?;
    if !status.success() {
        bail!("on the cluster `{cluster}`: {program} failed ({status})");
    }
    println!("{cluster} | done after {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Not there, most likely: the tests clean up after themselves.
fn down(cluster: &str) {
    let mut command = atoll(&["--name", cluster, "--state", STATE, "down"]);
    let _ = command.stderr(Stdio::null()).status();
}
