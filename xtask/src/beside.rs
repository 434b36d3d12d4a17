//! Measures what `docs/benchmarks/gateway.md` tells of the gateway beside nginx and
//! HAProxy: one machine, one upstream, one load after the other in turn.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HOST: &str = "bench.test";
const UPSTREAM: u16 = 19000;
/// Debian's packages, and the program by which each is known to be there.
const PACKAGES: [(&str, &str); 4] =
    [("nginx-light", "nginx"), ("haproxy", "haproxy"), ("wrk", "wrk"), ("openssl", "openssl")];
const SECONDS: u32 = 5;

/// One that is measured, and its ports: in clear text and over TLS.
struct Proxy {
    name: &'static str,
    ports: [u16; 2],
    child: Child,
}

/// What is asked of each.
struct Load {
    name: &'static str,
    secure: bool,
    file: &'static str,
    connections: u32,
    /// A new connection for each request.
    fresh: bool,
}

const LOADS: [Load; 6] = [
    Load { name: "clear text, 1 KiB", secure: false, file: "small", connections: 32, fresh: false },
    Load {
        name: "clear text, 1 KiB, new connections",
        secure: false,
        file: "small",
        connections: 32,
        fresh: true,
    },
    Load { name: "clear text, 1 MiB", secure: false, file: "large", connections: 8, fresh: false },
    Load { name: "TLS, 1 KiB", secure: true, file: "small", connections: 32, fresh: false },
    Load { name: "TLS, 1 KiB, new connections", secure: true, file: "small", connections: 32, fresh: true },
    Load { name: "TLS, 1 MiB", secure: true, file: "large", connections: 8, fresh: false },
];

#[derive(Clone, Copy)]
struct Measured {
    /// For each second of a processor that the proxy itself used.
    per_core: f64,
    /// In milliseconds.
    p99: f64,
}

/// Asked to end, so that its workers do, too.
impl Drop for Proxy {
    fn drop(&mut self) {
        let id = Pid::from_raw(self.child.id().cast_signed());
        let _ = kill(id, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub fn run(rounds: usize) -> anyhow::Result<()> {
    install()?;
    let folder = std::env::temp_dir().join(format!("atoll-bench-{}", std::process::id()));
    let result = measure(&folder, rounds.max(1));
    let _ = fs::remove_dir_all(&folder);
    result
}

fn measure(folder: &Path, rounds: usize) -> anyhow::Result<()> {
    prepare(folder)?;
    let upstream = start("upstream", [UPSTREAM; 2], nginx(folder, "upstream.conf"))?;
    let proxies = [
        start("nginx", [19010, 19011], nginx(folder, "nginx.conf"))?,
        start("HAProxy", [19020, 19021], haproxy(folder))?,
        start("Atoll", [19030, 19031], ours(folder)?)?,
    ];
    println!("{rounds} rounds of {SECONDS} s each, medians; load average before: {}", load_average()?);
    let columns =
        |what: &str| proxies.iter().map(|proxy| format!("{}, {what} | ", proxy.name)).collect::<String>();
    println!("| | {}{}Atoll to nginx |", columns("requests per core-second"), columns("p99 ms"));
    println!("|---|{}", "---|".repeat(proxies.len() * 2 + 1));
    for load in &LOADS {
        let mut all: Vec<Vec<Measured>> = proxies.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for turn in 0..proxies.len() {
                // Nobody is always the first.
                let at = (turn + round) % proxies.len();
                all[at].push(one(&proxies[at], load)?);
            }
        }
        let median = |of: fn(&Measured) -> f64| -> Vec<f64> {
            all.iter()
                .map(|some| {
                    let mut values: Vec<f64> = some.iter().map(of).collect();
                    values.sort_by(f64::total_cmp);
                    values[values.len() / 2]
                })
                .collect()
        };
        let (per_core, p99) = (median(|one| one.per_core), median(|one| one.p99));
        let row = |values: &[f64], digits: usize| -> String {
            values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" | ")
        };
        let ratios = format!("{:.2}, p99 {:.2}", per_core[2] / per_core[0], p99[2] / p99[0]);
        println!("| {} | {} | {} | {ratios} |", load.name, row(&per_core, 0), row(&p99, 2));
    }
    println!("load average after: {}", load_average()?);
    drop(proxies);
    drop(upstream);
    Ok(())
}

fn load_average() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// What is missing, from Debian; no service is started.
fn install() -> anyhow::Result<()> {
    let there = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| !there(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let status = Command::new("apt-get")
        .args(["install", "-q", "-y", "--no-install-recommends"])
        .args(&missing)
        // By which Debian's packages know that no service is wanted.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("starting apt-get")?;
    if !status.success() {
        bail!("apt-get could not install {} ({status})", missing.join(" "));
    }
    Ok(())
}

/// Files, a certificate, and the settings of all three.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    fs::write(files.join("small"), vec![b'x'; 1 << 10])?;
    fs::write(files.join("large"), vec![b'x'; 1 << 20])?;
    let at = |name: &str| folder.join(name).display().to_string();
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args([
            "-days",
            "2",
            "-subj",
            &format!("/CN={HOST}"),
            "-addext",
            &format!("subjectAltName=DNS:{HOST}"),
        ])
        .args(["-out", &at("certificate.pem"), "-keyout", &at("key.pem")])
        .stderr(Stdio::null())
        .status()
        .context("starting openssl")?;
    if !status.success() {
        bail!("openssl made no certificate ({status})");
    }
    let both = fs::read_to_string(at("certificate.pem"))? + &fs::read_to_string(at("key.pem"))?;
    fs::write(at("both.pem"), both)?;
    let common = |workers: u32, pid: &str| {
        format!(
            "daemon off;\nuser root;\nworker_processes {workers};\npid {};\nerror_log /dev/null crit;\n\
             events {{ worker_connections 4096; }}\n",
            at(pid)
        )
    };
    let root = files.display();
    fs::write(
        at("upstream.conf"),
        format!(
            "{}http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000000;\n  \
             server {{ listen 127.0.0.1:{UPSTREAM} reuseport; root {root}; }}\n}}\n",
            common(1, "upstream.pid")
        ),
    )?;
    fs::write(
        at("nginx.conf"),
        format!(
            "{}http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  \
             upstream app {{ server 127.0.0.1:{UPSTREAM}; keepalive 64; keepalive_requests 1000000000; }}\n  \
             server {{\n    listen 127.0.0.1:19010 reuseport;\n    listen 127.0.0.1:19011 ssl reuseport;\n    \
             server_name {HOST};\n    ssl_certificate {};\n    ssl_certificate_key {};\n    \
             ssl_session_cache shared:all:10m;\n    \
             location / {{\n      proxy_pass http://app;\n      proxy_http_version 1.1;\n      \
             proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n      \
             proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header X-Real-IP $remote_addr;\n      \
             proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_set_header X-Forwarded-Host $http_host;\n    \
             }}\n  }}\n}}\n",
            common(2, "nginx.pid"),
            at("certificate.pem"),
            at("key.pem"),
        ),
    )?;
    fs::write(
        at("haproxy.cfg"),
        format!(
            "global\n  nbthread 2\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
             timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n\
             frontend in\n  bind 127.0.0.1:19020\n  bind 127.0.0.1:19021 ssl crt {}\n  \
             http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  default_backend app\n\
             backend app\n  server one 127.0.0.1:{UPSTREAM} pool-max-conn 64\n",
            at("both.pem")
        ),
    )?;
    Ok(())
}

fn nginx(folder: &Path, settings: &str) -> Command {
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(folder.join(settings)).arg("-p").arg(folder);
    command
}

fn haproxy(folder: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
    command
}

/// The gateway, built as it is shipped.
fn ours(folder: &Path) -> anyhow::Result<Command> {
    crate::run(crate::cargo(&["build", "--release", "--package", "gateway", "--example", "serve"]))?;
    let program = PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
        .join("release/examples/serve");
    let mut command = Command::new(program);
    command.args(["127.0.0.1:19030", "127.0.0.1:19031", HOST, &format!("127.0.0.1:{UPSTREAM}")]);
    command.arg(folder.join("certificate.pem")).arg(folder.join("key.pem"));
    Ok(command)
}

/// Starts one, and waits until it accepts.
fn start(name: &'static str, ports: [u16; 2], mut command: Command) -> anyhow::Result<Proxy> {
    let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("starting {name}"))?;
    let mut proxy = Proxy { name, ports, child };
    let deadline = Instant::now() + Duration::from_secs(20);
    for port in ports {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = proxy.child.try_wait()? {
                bail!("{name} has ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("{name} doesn't listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(proxy)
}

fn one(proxy: &Proxy, load: &Load) -> anyhow::Result<Measured> {
    let scheme = if load.secure { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{}/{}", proxy.ports[usize::from(load.secure)], load.file);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "--latency", &format!("-c{}", load.connections), &format!("-d{SECONDS}s")]);
    wrk.args(["-H", &format!("Host: {HOST}")]);
    if load.fresh {
        wrk.args(["-H", "Connection: close"]);
    }
    let before = processor(proxy.child.id())?;
    let output = wrk.arg(&url).output().context("starting wrk")?;
    let used = processor(proxy.child.id())? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Non-2xx") {
        bail!("{}, {}: {text}{}", proxy.name, load.name, String::from_utf8_lossy(&output.stderr));
    }
    let read = read(&text).with_context(|| format!("what wrk says: {text}"))?;
    Ok(Measured { per_core: read.0 / used, p99: read.1 })
}

/// How many requests there were, and the 99th percentile in milliseconds.
fn read(text: &str) -> Option<(f64, f64)> {
    let lines = || text.lines().map(str::trim);
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
    let p99 = lines().find_map(|line| line.strip_prefix("99%"))?.trim();
    let unit = p99.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let number: f64 = p99.strip_suffix(unit)?.parse().ok()?;
    let scale = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some((requests, number * scale))
}

/// The seconds that a process and its children have used of a processor.
fn processor(id: u32) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which may hold anything: the parent is the 2nd, user and
        // system time are the 12th and 13th.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let own = entry.file_name().to_str() == Some(id.to_string().as_str());
        if own || fields.get(1) == Some(&id.to_string().as_str()) {
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        }
    }
    // A hundred ticks are a second, on every Linux there is.
    Ok(ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "  Thread Stats   Avg\n  Latency Distribution\n     50%    1.02ms\n     99%  812.00us\n  40123 requests in 5.00s, 50MB read\n";
        assert_eq!(read(text), Some((40123.0, 0.812)));
        assert_eq!(read("nothing"), None);
    }
}
