//! The controller: keeps what is there as the resources say.
//!
//! [`addresses`] gives Services of type LoadBalancer their address, [`ingress`]
//! tells each Ingress where it is reached, [`instance`] tells how an app is, and
//! [`serving`] lets kubelets have certificates. Each watches and acts for
//! itself; when one ends, the process does, and is started again.

mod addresses;
mod ingress;
mod instance;
mod serving;

use kube::Client;

/// The name under which the controller's changes are known to the API server.
const FIELD_MANAGER: &str = "atoll-controller";

#[derive(clap::Args)]
pub struct Arguments {
    /// The addresses for Services of type LoadBalancer, as FIRST-LAST; none
    /// where a cloud gives them
    #[arg(long)]
    addresses: Option<addresses::Pool>,
}

/// Runs until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let pool = arguments.addresses;
    let addresses = async {
        match pool {
            Some(pool) => addresses::run(client.clone(), pool).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopped => Ok(()),
        result = addresses => result,
        result = ingress::run(client.clone()) => result,
        result = instance::run(client.clone()) => result,
        result = serving::run(client.clone()) => result,
    }
}
