//! `atolld`, the one program inside the cluster. It runs as one of its roles:
//! `controller`, `admission`, `front`, `server`, `gateway` or `agent`.
//!
//! It assembles: what a role does is in the crate of that name, or, while it is
//! small, in the module of that name here.

mod admission;
mod agent;
mod certificate;
mod controller;
mod front;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A role of Atoll inside the cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Keep what is there as the resources say
    Controller(controller::Arguments),
    /// Change pods of workspaces before they are stored
    Admission(admission::Arguments),
    /// Serve every app's address
    Gateway {
        #[arg(long, default_value = "0.0.0.0:8080")]
        http: SocketAddr,
        #[arg(long, default_value = "0.0.0.0:8443")]
        https: SocketAddr,
        /// Readiness and metrics
        #[arg(long, default_value = "0.0.0.0:9090")]
        admin: SocketAddr,
        /// The port of https as clients see it, for redirects
        #[arg(long, default_value_t = 443)]
        public_https_port: u16,
        /// Where what is known is kept over a restart
        #[arg(long)]
        snapshot: Option<PathBuf>,
        /// Requests a second that a workspace may have of this gateway; 0: any
        #[arg(long, default_value_t = 2000)]
        workspace_requests: u32,
        /// Requests at once, WebSockets among them, that a workspace may have; 0: any
        #[arg(long, default_value_t = 4000)]
        workspace_concurrent: u32,
        /// Bytes a second of bodies that a workspace may have; 0: any
        #[arg(long, default_value_t = 0)]
        workspace_bytes: u64,
        /// Networks of balancers, whose connections begin with a PROXY header
        #[arg(long, value_delimiter = ',')]
        proxy_protocol_from: Vec<ipnet::IpNet>,
        /// The zone of the node: endpoints that are meant for it come first
        #[arg(long, env = "ATOLL_ZONE")]
        zone: Option<String>,
        /// Compress the answers of routes that don't say whether they want it
        #[arg(long)]
        compress: bool,
        /// Write a line of JSON for each request
        #[arg(long)]
        access_log: bool,
    },
    /// Show each account its part of the Kubernetes API
    Front(front::Arguments),
    /// Serve the desktop and the HTTP API, and keep the ledger
    Server(server::Arguments),
    /// Do on a node what only it can do
    Agent(agent::Arguments),
}

/// Roles hold little, and for a moment much: this one gives it back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    // Where the system gives huge pages unasked, a small role would be mostly those.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ATOLL_LOG").unwrap_or_else(|_| {
                tracing_subscriber::EnvFilter::new("info,kube=warn,tower=warn,pingora=warn")
            }),
        )
        .init();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    // Few threads: there are many roles on a node, and none computes much.
    let threads = match &arguments.role {
        Role::Gateway { .. } | Role::Front(_) => std::thread::available_parallelism().map_or(2, usize::from),
        _ => 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(arguments.role))
}

async fn run(role: Role) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await?;
    let stopped = stopped()?;
    match role {
        Role::Controller(arguments) => controller::run(client, arguments, stopped).await,
        Role::Admission(arguments) => admission::run(client, arguments, stopped).await,
        Role::Agent(arguments) => agent::run(client, arguments, stopped).await,
        Role::Front(arguments) => front::run(client, arguments, stopped).await,
        Role::Server(arguments) => server::run(client, arguments, stopped).await,
        Role::Gateway {
            http,
            https,
            admin,
            public_https_port,
            snapshot,
            workspace_requests,
            workspace_concurrent,
            workspace_bytes,
            proxy_protocol_from,
            zone,
            compress,
            access_log,
        } => {
            let config = gateway::Config {
                http,
                https,
                admin,
                public_https_port,
                snapshot,
                workspace_limits: gateway::tenant::Limits {
                    requests_per_second: workspace_requests,
                    concurrent: workspace_concurrent,
                    bytes_per_second: workspace_bytes,
                },
                proxy_protocol_from,
                node_zone: zone.filter(|zone| !zone.is_empty()),
                compress,
                access_log,
                ..gateway::Config::default()
            };
            Ok(gateway::run(client, config, stopped).await?)
        }
    }
}

/// Completes when the process is asked to end.
fn stopped() -> anyhow::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
