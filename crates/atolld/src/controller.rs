//! The controller: keeps what is there as the resources say.
//!
//! [`acme`] gets certificates for those that ask for them, [`addresses`] gives
//! Services of type LoadBalancer their address, [`gateway`]
//! gives Gateways such a Service and their status, [`ingress`] tells each Ingress where it is reached, [`instance`] tells how an app is,
//! [`serving`] lets kubelets have certificates, and `tenancy` makes workspaces
//! what they have to be. Each watches and acts for
//! itself; when one ends, the process does, and is started again.

mod acme;
mod addresses;
mod gateway;
mod ingress;
mod instance;
mod serving;

use anyhow::Context;
use kube::Client;

/// The name under which the controller's changes are known to the API server.
const FIELD_MANAGER: &str = "atoll-controller";

#[derive(clap::Args)]
pub struct Arguments {
    /// The addresses for Services of type LoadBalancer, as FIRST-LAST; none
    /// where a cloud gives them
    #[arg(long)]
    addresses: Option<addresses::Pool>,
    /// A range of addresses that is no part of the internet, besides the private
    /// ones: pods, services, nodes
    #[arg(long, value_name = "CIDR")]
    inside: Vec<String>,
    /// The authority of front's certificate, in PEM and that in base64, for pods of
    /// workspaces to believe
    #[arg(long)]
    authority: Option<String>,
    /// Where `/metrics` is served; nowhere without it
    #[arg(long)]
    metrics: Option<std::net::SocketAddr>,
}

/// What is no part of the internet anywhere: private networks (RFC 1918), shared
/// ones (RFC 6598), the link itself and a cloud's metadata on it (RFC 3927).
const PRIVATE: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"];

/// Runs until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let pool = arguments.addresses;
    let mut inside: Vec<String> = PRIVATE.map(Into::into).into();
    inside.extend(arguments.inside);
    inside.dedup();
    let authority = arguments.authority.map(|text| decode(&text)).transpose()?;
    let tenancy = tenancy::controller::Config { inside, authority };
    let addresses = async {
        match pool {
            Some(pool) => addresses::run(client.clone(), pool).await,
            None => std::future::pending().await,
        }
    };
    let metrics = std::sync::Arc::new(acme::metrics::Metrics::default());
    let (wanted, certificates) = tokio::sync::watch::channel(Vec::new());
    tokio::select! {
        () = stopped => Ok(()),
        result = addresses => result,
        result = gateway::run(client.clone(), wanted) => result,
        result = acme::run(client.clone(), certificates, metrics.clone()) => result,
        result = acme::metrics::serve(metrics.clone(), arguments.metrics) => result,
        result = ingress::run(client.clone()) => result,
        result = instance::run(client.clone()) => result,
        result = serving::run(client.clone()) => result,
        result = tenancy::controller::run(client.clone(), tenancy) => Ok(result?),
    }
}

fn decode(text: &str) -> anyhow::Result<String> {
    let bytes: k8s_openapi::ByteString =
        serde_json::from_value(text.into()).context("--authority is base64")?;
    String::from_utf8(bytes.0).context("--authority is PEM")
}
