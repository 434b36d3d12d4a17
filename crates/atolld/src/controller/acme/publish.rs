//! Shows a challenge by a Secret of the system's that the gateways watch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use acme::order::{Challenge, Publisher};
use api::names::{ACME_CHALLENGE_LABEL, GATEWAY_SERVICE, SYSTEM_NAMESPACE};
use async_trait::async_trait;
use gateway::object::Id;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::controller::FIELD_MANAGER;

/// The gateways' port that tenants don't reach.
const ADMIN: u16 = 9090;
/// All gateways know of a challenge in this time, or it goes on without.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);
const ASKING: Duration = Duration::from_secs(2);
/// Of a Secret's name, which has the token in it.
const LONGEST: usize = 200;

pub struct Gateways {
    pub client: Client,
    /// At whose address alone; None: at the shared one.
    pub gateway: Option<Id>,
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

/// A token has letters that names haven't.
fn name(challenge: &Challenge) -> String {
    let mut name = "acme-".to_owned();
    for byte in challenge.token.bytes() {
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(LONGEST);
    name
}

fn secret(challenge: &Challenge, gateway: Option<&Id>) -> Secret {
    let mut data = BTreeMap::from([
        ("host".to_owned(), challenge.host.clone()),
        ("token".to_owned(), challenge.token.clone()),
        ("key-authorization".to_owned(), challenge.key_authorization.clone()),
    ]);
    data.extend(gateway.map(|gateway| ("gateway".to_owned(), gateway.to_string())));
    let mut secret =
        Secret { string_data: Some(data), type_: Some(ACME_CHALLENGE_LABEL.to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name(challenge));
    secret.metadata.labels = Some([(ACME_CHALLENGE_LABEL.to_owned(), "true".to_owned())].into());
    secret
}

/// Removes what an earlier life of this process has left.
pub async fn clear(client: &Client) -> Result<(), kube::Error> {
    let left = secrets(client).list(&ListParams::default().labels(ACME_CHALLENGE_LABEL)).await?;
    for secret in left {
        remove(client, &secret.name_any()).await?;
    }
    Ok(())
}

async fn remove(client: &Client, name: &str) -> Result<(), kube::Error> {
    match secrets(client).delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Publisher for Gateways {
    async fn publish(&self, challenge: &Challenge) -> Result<(), String> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = name(challenge);
        // One that was left of an order that nobody knows of may be shown elsewhere.
        remove(&self.client, &name).await.map_err(|error| error.to_string())?;
        let secret = secret(challenge, self.gateway.as_ref());
        secrets(&self.client).create(&params, &secret).await.map_err(|error| error.to_string())?;
        if tokio::time::timeout(PATIENCE, known(&self.client, &name)).await.is_err() {
            tracing::info!(host = challenge.host, "not every gateway knows of a challenge; going on");
        }
        Ok(())
    }

    async fn withdraw(&self, challenge: &Challenge) {
        if let Err(error) = remove(&self.client, &name(challenge)).await {
            tracing::warn!(host = challenge.host, %error, "a challenge was not withdrawn");
        }
    }
}

/// Waits until each gateway that is ready serves a challenge.
async fn known(client: &Client, name: &str) {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={GATEWAY_SERVICE}"));
    loop {
        if let Ok(slices) = slices.list(&of).await {
            let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints);
            let ready = endpoints.filter(|endpoint| {
                endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
            });
            let addresses: Vec<IpAddr> = ready
                .flat_map(|endpoint| endpoint.addresses)
                .filter_map(|address| address.parse().ok())
                .collect();
            let asked = addresses.into_iter().map(|address| serves(address, name));
            if futures::future::join_all(asked).await.into_iter().all(|serves| serves) {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serves(gateway: IpAddr, name: &str) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((gateway, ADMIN)).await?;
        let request =
            format!("GET /challenges/{name} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status == *b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(ASKING, asked).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_it_was_written() {
        let mut challenge =
            Challenge { host: "a.example".into(), token: "Ab_-".into(), key_authorization: "Ab_-.k".into() };
        let written = secret(&challenge, Some(&Id::new("shop", "own")));
        assert_eq!(written.name_any(), "acme-41625f2d");
        let mut read = written.clone();
        // As the API server gives it back.
        let data = read.string_data.take().unwrap_or_default();
        read.data = Some(
            data.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes()))).collect(),
        );
        let read = gateway::challenge::Challenge::read(&read).unwrap();
        assert_eq!((read.host, read.token), ("a.example".to_owned(), "Ab_-".to_owned()));
        assert_eq!(read.gateway, Some(Id::new("shop", "own")));
        challenge.token = "x".repeat(500);
        assert_eq!(name(&challenge).len(), LONGEST);
    }
}
