//! Measures what `docs/benchmarks/up.md` tells: how long `up` and `down` take,
//! beside `kubeadm init` alone on the same node, and what memory each part uses.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

const STATE: &str = "/var/lib/atoll-bench";

fn atoll(words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("target/release/atoll")
        .args(["--name", "bench", "--state", STATE])
        .args(words)
        .output()
        .context("starting target/release/atoll")?;
    if !output.status.success() {
        bail!("atoll {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn seconds(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures `rounds` times, one after the other of each, and prints medians.
pub fn run(rounds: usize) -> anyhow::Result<()> {
    let example = "examples/hello.yaml";
    let (mut ups, mut apps, mut kubeadms, mut downs) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds.max(1) {
        ups.push(seconds(|| atoll(&["up", "--image", "atoll/cluster"]).map(drop))?);
        apps.push(seconds(|| atoll(&["app", "install", example]).map(drop))?);
        // What kubeadm took of it, by the times in its own log.
        let log = fs::metadata(format!("{STATE}/bench/kubeadm.log"))?;
        kubeadms.push(log.modified()?.duration_since(log.created()?)?.as_secs_f64());
        if round + 1 == rounds.max(1) {
            println!("waiting five minutes, so that memory is that of a cluster at rest");
            std::thread::sleep(std::time::Duration::from_secs(300));
            memory()?;
        }
        downs.push(seconds(|| atoll(&["down"]).map(drop))?);
        println!(
            "round {}: up {:.1} s, app {:.1} s, kubeadm {:.1} s, down {:.1} s",
            round + 1,
            ups[round],
            apps[round],
            kubeadms[round],
            downs[round]
        );
    }
    let (up, app, kubeadm, down) =
        (median(&mut ups), median(&mut apps), median(&mut kubeadms), median(&mut downs));
    println!("median: up {up:.1} s, app {app:.1} s, kubeadm init alone {kubeadm:.1} s, down {down:.1} s");
    println!("up is {:.1} times kubeadm init alone", up / kubeadm);
    Ok(())
}

/// Prints the proportional set size of every program in the node, in MiB.
fn memory() -> anyhow::Result<()> {
    let file = format!("{STATE}/bench/nodes/bench-1/init.pid");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let init = text.split(' ').next().unwrap_or_default();
    let namespace = fs::read_link(format!("/proc/{init}/ns/pid"))?;
    let mut sizes: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let folder = entry.path();
        if !fs::read_link(folder.join("ns/pid"))
            .is_ok_and(|other| other == namespace || is_below(&folder, init))
        {
            continue;
        }
        // A process that ends meanwhile has nothing to count.
        let (Ok(words), Ok(rollup)) =
            (fs::read(folder.join("cmdline")), fs::read_to_string(folder.join("smaps_rollup")))
        else {
            continue;
        };
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let pss = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or_default();
        let size = sizes.entry(component(&words)).or_default();
        size.0 += pss;
        size.1 += 1;
    }
    let mut total = 0;
    for (name, (kib, count)) in &sizes {
        println!("{:>8.1} MiB  {count:>2} x {name}", *kib as f64 / 1024.0);
        total += kib;
    }
    println!("{:>8.1} MiB  in all", total as f64 / 1024.0);
    Ok(())
}

/// Whether a process descends from the node's first one: pods have process
/// namespaces of their own.
fn is_below(folder: &std::path::Path, init: &str) -> bool {
    let mut folder = folder.to_path_buf();
    for _ in 0..64 {
        let Ok(stat) = fs::read_to_string(folder.join("stat")) else { return false };
        let Some(parent) = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) else {
            return false;
        };
        if parent == init {
            return true;
        }
        folder = std::path::PathBuf::from("/proc").join(parent);
    }
    false
}

/// A program's name, with the role for those that have several.
fn component(words: &str) -> String {
    let mut parts = words.split_whitespace();
    let program = parts.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    match program {
        "atolld" => format!("atolld {}", parts.next().unwrap_or_default()),
        other => other.trim_end_matches(':').to_string(),
    }
}
