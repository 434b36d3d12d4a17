//! The gateway alone, against the cluster that `KUBECONFIG` names:
//! `cargo run --release -p gateway --example gateway -- 127.0.0.1:8080 127.0.0.1:8443 127.0.0.1:9090 [snapshot directory]`

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
        .init();
    let mut words = std::env::args().skip(1);
    let mut address = || words.next().ok_or("three addresses, please").map(|word| word.parse());
    let config = gateway::Config {
        http: address()??,
        https: address()??,
        admin: address()??,
        snapshot: words.next().map(Into::into),
        ..gateway::Config::default()
    };
    let client = kube::Client::try_default().await?;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    gateway::run(client, config, async move {
        term.recv().await;
    })
    .await?;
    Ok(())
}
