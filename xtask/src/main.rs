//! What people who work on Atoll run: `cargo verify`, the gate that every
//! change passes, and `cargo verify-long`, which adds what takes hours.
//!
//! Both start other programs and stop at the first that fails. Nothing is
//! passed over: what can't run on a machine fails there.

mod acme;
mod benches;
mod beside;
mod conformance;
mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

/// What people who work on Atoll run.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, unit tests, and the end-to-end suite on a real cluster
    Verify {
        /// Run only the end-to-end tests whose names contain this
        #[arg(long)]
        only: Option<String>,
    },
    /// What `verify` does, the benches, fuzzing, scale, and the Gateway API's conformance suite
    VerifyLong,
    /// Attack the gateway with generated requests, many more than its own tests send
    Fuzz {
        /// How many requests are sent, and how many are looked up in generated tables
        #[arg(long, default_value_t = 1_000_000)]
        requests: u64,
        /// Which ones; the same number makes the same requests again
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Build the desktop's files: Rust to wasm, hashed names, compressed
    Desktop {
        /// The folder that gets them
        #[arg(long, default_value = "target/desktop")]
        output: PathBuf,
        /// What is kept between builds; without it `~/.cache/atoll`
        #[arg(long)]
        cache: Option<PathBuf>,
    },
    /// Build the kernel half of the network into target/ebpf/network.o
    Ebpf,
    /// Run the Gateway API's conformance suite against a cluster of its own
    Conformance {
        /// The file that gets the suite's report
        #[arg(long, default_value = "docs/conformance/gateway-api.yaml")]
        report: PathBuf,
        /// Run only this one test, and write no report
        #[arg(long)]
        only: Option<String>,
    },
    /// Have the gateway get certificates of a real ACME server
    Acme,
    /// Measure what a change costs the gateway beside up to 100,000 routes
    Scale,
    /// Measure the gateway beside nginx and HAProxy
    BenchGateway {
        /// How many times each is measured
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Measure `up` beside kubeadm by hand, and memory by component
    Bench {
        /// How many times each is measured
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Verify { only } => verify(only.as_deref()),
        Task::VerifyLong => {
            verify(None)?;
            run(cargo(&["bench", "--workspace"]))?;
            run(cargo(&["bench", "--workspace", "--features", "e2e/cluster", "--bench", "tenancy"]))?;
            run(fuzz(10_000_000, 1))?;
            run(scale())?;
            beside::run(5)?;
            conformance::run(Path::new("docs/conformance/gateway-api.yaml"), None)?;
            benches::run(5)
        }
        Task::Desktop { output, cache } => desktop(output, cache),
        Task::Fuzz { requests, seed } => run(fuzz(requests, seed)),
        Task::Ebpf => run(ebpf()),
        Task::Conformance { report, only } => {
            run(cargo(&["build", "--release", "--bin", "atoll"]))?;
            conformance::run(&report, only.as_deref())
        }
        Task::Acme => acme(),
        Task::Scale => run(scale()),
        Task::BenchGateway { rounds } => beside::run(rounds),
        Task::Bench { rounds } => benches::run(rounds),
    }
}

/// Builds the desktop and says where it is.
fn desktop(output: PathBuf, cache: Option<PathBuf>) -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let started = Instant::now();
    let folder = desktop_build::build(&desktop_build::Options {
        workspace: workspace.canonicalize().context("finding the checkout")?,
        output,
        cache: cache.map_or_else(desktop_build::default_cache, Ok)?,
        progress: |step| println!("==> {step}"),
    })?;
    println!("{} ({:.1} s)", folder.display(), started.elapsed().as_secs_f64());
    Ok(())
}

/// An ACME server, and the gateway's test with it.
fn acme() -> anyhow::Result<()> {
    run(acme::build()?)?;
    run(acme::test()?)
}

/// The kernel half has another compiler; the network's tests load what this
/// writes.
fn ebpf() -> Command {
    let mut command = Command::new("crates/network-ebpf/build.sh");
    command.arg("target/ebpf/network.o");
    command
}

/// The program that docs/benchmarks/gateway.md tells of; `c` is for certificates.
fn scale() -> Command {
    let sizes = ["100", "1000", "10000", "20000c", "100000"];
    let mut command = cargo(&["run", "--release", "--package", "gateway", "--example", "scale", "--"]);
    command.args(sizes);
    command
}

/// The gateway's own fuzzing test, with more to do. Its features are those of
/// `verify`, so that nothing is built twice.
fn fuzz(requests: u64, seed: u64) -> Command {
    let mut command = cargo(&["test", "--release", "--workspace", "--test", "fuzz", "--"]);
    command.args(["--nocapture", "--test-threads=1"]);
    command.env("ATOLL_FUZZ_REQUESTS", requests.to_string()).env("ATOLL_FUZZ_SEED", seed.to_string());
    command
}

fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words);
    // What the outer cargo says of this program; some build scripts look at it, and
    // would run again, with all that follows, for each way of calling.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a step with its output shown, and says how long it took.
fn run(mut command: Command) -> anyhow::Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let what = words.join(" ");
    println!("==> {what}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    println!("==> {what}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn verify(only: Option<&str>) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the end-to-end tests start real clusters: run `cargo verify` as root");
    }
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--test",
        "browser",
        "--test",
        "pebble",
        "--features",
        "e2e/cluster,frontend/browser",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(ebpf())?;
    run(cargo(&["test", "--release", "--workspace"]))?;
    run(cargo(&["test", "--release", "--workspace", "--test", "browser"]))?;
    acme()?;
    run(cargo(&["build", "--release", "--bin", "atoll"]))?;
    // Built before the tests, so that its minutes on a new machine are not counted as one
    // test's.
    run(atoll(&["image", "build"]))?;
    suite::run_all(only)
}

fn atoll(words: &[&str]) -> Command {
    let mut command = Command::new("target/release/atoll");
    command.args(words);
    command
}
