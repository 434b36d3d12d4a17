//! Runs the Gateway API's conformance suite against a cluster of its own, and
//! keeps its report.
//!
//! The suite and the server that its routes lead to are Go modules, pinned in
//! `e2e/conformance`. The suite runs in the first node's network, where the
//! addresses of Gateways are.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const STATE: &str = "/var/lib/atoll-e2e";
const NAME: &str = "conformance";
const MODULE: &str = "e2e/conformance";
const SUITE: &str = "sigs.k8s.io/gateway-api/conformance";
const ECHO: &str = "registry.k8s.io/gateway-api/echo-basic";
const DNS: &str = "registry.k8s.io/coredns/coredns";
const PROFILES: &str = "GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS";

/// Builds, runs and takes the cluster down again, whatever came out.
pub fn run(report: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let output = Path::new("target/conformance");
    fs::create_dir_all(output)?;
    let (suite, archive) = build(output)?;
    done(atoll(&["up"]), "bringing the cluster up")?;
    let result = test(&suite, &archive, report, only);
    let down = done(atoll(&["down"]), "taking the cluster down");
    result.and(down)
}

fn atoll(words: &[&str]) -> Command {
    let mut command = Command::new("target/release/atoll");
    command.args(["--name", NAME, "--state", STATE]).args(words);
    command
}

fn done(mut command: Command, what: &str) -> anyhow::Result<()> {
    println!("==> {what}");
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

fn text(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn go(words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new("go");
    let cache = desktop_build::default_cache()?.join("go-build");
    command.current_dir(MODULE).args(words).env("GOCACHE", cache).env("GOFLAGS", "-p=1 -mod=readonly");
    command.env("CGO_ENABLED", "0");
    Ok(command)
}

/// The suite's program, and an archive with the image under every name that the
/// suite has for it.
fn build(output: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let output = output.canonicalize()?;
    let suite = output.join("conformance.test");
    let echo = output.join("echo-basic");
    let mut command = go(&["test", "-c", "-o"])?;
    done(
        {
            command.arg(&suite).arg(".");
            command
        },
        "building the suite",
    )?;
    let mut command = go(&["build", "-trimpath", "-ldflags=-s -w", "-o"])?;
    command.arg(&echo).arg(format!("{SUITE}/echo-basic"));
    done(command, "building the server behind its routes")?;
    let module = text(go(&["list", "-m", "-f", "{{.Dir}}", SUITE])?)?;
    let mut names = images(Path::new(module.trim()), ECHO)?;
    names.sort();
    names.dedup();
    let archive = output.join("echo-basic.tar");
    pack(&fs::read(&echo)?, &names, &archive)?;
    Ok((suite, archive))
}

/// The names of an image in the suite's manifests.
fn images(folder: &Path, image: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for below in ["base", "tests"] {
        for entry in fs::read_dir(folder.join(below))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let manifest = fs::read_to_string(&path)?;
                let found = manifest.lines().filter_map(|line| line.trim().strip_prefix("image:"));
                names.extend(found.map(str::trim).filter(|name| name.starts_with(image)).map(str::to_owned));
            }
        }
    }
    Ok(names)
}

/// A container image that is one program, as container runtimes import it.
fn pack(program: &[u8], names: &[String], archive: &Path) -> anyhow::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "echo-basic", program, 0o755)?;
    let layer = layer.into_inner()?;
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/echo-basic"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"] }]);
    let mut image = tar::Builder::new(fs::File::create(archive)?);
    add(&mut image, "layer.tar", &layer, 0o644)?;
    add(&mut image, "config.json", config.to_string().as_bytes(), 0o644)?;
    add(&mut image, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
    image.into_inner()?.flush()?;
    Ok(())
}

fn add<W: std::io::Write>(
    to: &mut tar::Builder<W>,
    name: &str,
    data: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len().try_into()?);
    header.set_mode(mode);
    header.set_cksum();
    to.append_data(&mut header, name, data)?;
    Ok(())
}

fn test(suite: &Path, archive: &Path, report: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let status: Value = serde_json::from_str(&text(atoll(&["status", "-o", "json"]))?)?;
    let pid = status["nodes"][0]["pid"].as_u64().context("the first node doesn't run")?.to_string();
    let node = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid]).args(words);
        command
    };
    // The node doesn't see the machine's files; what is piped it does.
    let mut import =
        node(&["--mount", "--net", "--", "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", "-"]);
    import.stdin(fs::File::open(archive)?);
    done(import, "giving the node the image")?;
    let listed = text(node(&["--mount", "--net", "--", "ctr", "-n", "k8s.io", "images", "list", "-q"]))?;
    let own = listed.lines().find(|name| name.starts_with(DNS)).context("the node has no CoreDNS")?;
    let module = text(go(&["list", "-m", "-f", "{{.Dir}}", SUITE])?)?;
    for name in images(Path::new(module.trim()), DNS)? {
        let mut tag = node(&["--mount", "--net", "--", "ctr", "-n", "k8s.io", "images", "tag", "--force"]);
        tag.args([own, &name]);
        done(tag, "naming CoreDNS as the suite does")?;
    }
    let kubeconfig = Path::new(STATE).join(NAME).join("direct.conf");
    let server = fs::read_to_string(&kubeconfig)?;
    let host = server.split("https://").nth(1).and_then(|rest| rest.split(':').next());
    let network = host.and_then(|host| host.rsplit_once('.')).context("direct.conf names no server")?.0;
    let mut run = node(&["--net", "--"]);
    run.arg(suite.canonicalize()?)
        .current_dir(MODULE)
        .env("KUBECONFIG", &kubeconfig)
        .args(["-test.v", "-test.timeout", "60m", "-gateway-class", "atoll"])
        .args(["-conformance-profiles", PROFILES])
        .args(["-organization", "atoll", "-project", "atoll", "-url", "https://atoll.dev"])
        .args(["-contact", "https://atoll.dev", "-version", env!("CARGO_PKG_VERSION")])
        // One of the pool that nobody has, and one for documentation.
        .args(["-usable-address", &format!("{network}.249"), "-unusable-address", "192.0.2.1"]);
    match only {
        Some(only) => run.args(["-run-test", only]),
        None => run.arg("-report-output").arg(std::path::absolute(report)?),
    };
    done(run, "the suite")
}
