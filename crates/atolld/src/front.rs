//! Front: the Kubernetes API as each account may see it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use front::directory::Index;
use front::{Config, Credentials, Files, Upstream, feed};
use identity::store::Store;
use identity::token::{AUDIENCE, Verifier};
use kube::Client;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where clients come
    #[arg(long, default_value = "0.0.0.0:6443")]
    https: SocketAddr,
    /// Readiness and metrics
    #[arg(long, default_value = "0.0.0.0:9090")]
    admin: SocketAddr,
    /// The folder with the certificate that clients are shown: tls.crt and tls.key
    #[arg(long)]
    certificate: PathBuf,
    /// The API server
    #[arg(long, default_value = "https://kubernetes.default.svc:443")]
    upstream: String,
    /// The folder with what proves front there: ca.crt and token
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    credentials: PathBuf,
}

/// Serves until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (index, directory) = Index::new();
    let verifier = Verifier::new(AUDIENCE);
    let store = Store::new(client.clone());
    let ca = arguments.credentials.join("ca.crt");
    let upstream = Upstream {
        address: arguments.upstream,
        ca: std::fs::read(&ca).with_context(|| format!("reading {}", ca.display()))?,
        credentials: Credentials::TokenFile(arguments.credentials.join("token")),
    };
    let files =
        Files { chain: arguments.certificate.join("tls.crt"), key: arguments.certificate.join("tls.key") };
    let config = Config { https: arguments.https, admin: arguments.admin, ..Config::new(files) };
    tokio::select! {
        () = feed::run(client, index) => anyhow::bail!("the watches of accounts and workspaces ended"),
        () = store.keep_told(verifier.clone()) => anyhow::bail!("the watch of keys and revocations ended"),
        result = front::run(config, upstream, verifier, directory, stopped) => Ok(result?),
    }
}
