//! One order, from its names to a certificate.
//!
//! One account proves hosts for everybody, and an authority remembers what an account has
//! proven: it would give one tenant a certificate for a host that another one has proven.
//! So nothing counts that was proven before: it is taken back, and proven again where the
//! host is now; and what an order has proven is taken back at its end. Of two orders for
//! one host at a time the caller has to take care.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use instant_acme::{
    AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};

use crate::Error;
use crate::account::Account;
use crate::client::{refused, words};
use crate::issued::Issued;

/// How a host is proven to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By what is at a path of it, in clear text (RFC 8555, section 8.3).
    Http01,
    /// By a certificate that is shown for it (RFC 8737).
    TlsAlpn01,
}

impl Proof {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// As [`Proof::as_str`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Http01, Self::TlsAlpn01].into_iter().find(|proof| proof.as_str() == text)
    }

    fn kind(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }
}

/// What is to be shown at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub host: String,
    pub token: String,
    /// The token with the account key's thumbprint. The authority alone knows the
    /// account; what is shown to anybody is no secret.
    pub key_authorization: String,
}

/// Shows challenges at their hosts.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns when it is shown, wherever the host may be asked.
    async fn publish(&self, challenge: &Challenge) -> Result<(), String>;

    async fn withdraw(&self, challenge: &Challenge);
}

/// Orders whose nonce was refused time and again are begun anew so many times.
const TRIES: usize = 3;
/// Orders in which something was proven before are begun anew so many times.
const ROUNDS: usize = 4;

/// Gets a certificate for hosts within a time. What was published is withdrawn,
/// however it ends.
pub async fn order(
    account: &Account,
    hosts: &[String],
    proof: Proof,
    publisher: &dyn Publisher,
    within: Duration,
) -> Result<Issued, Error> {
    let mut published = Vec::new();
    let carried = async {
        for _ in 1..TRIES {
            match carry(account, hosts, proof, (publisher, &mut published), within).await {
                Err(Error::Refused { nonce: true, text, .. }) => {
                    tracing::debug!(text, "an order is begun again");
                }
                result => return result,
            }
        }
        carry(account, hosts, proof, (publisher, &mut published), within).await
    };
    let result = tokio::time::timeout(within, carried).await;
    for challenge in &published {
        publisher.withdraw(challenge).await;
    }
    result.unwrap_or_else(|_| Err(Error::Late(within.as_secs())))
}

async fn carry(
    account: &Account,
    hosts: &[String],
    proof: Proof,
    (publisher, published): (&dyn Publisher, &mut Vec<Challenge>),
    within: Duration,
) -> Result<Issued, Error> {
    let names: Vec<Identifier> = hosts.iter().cloned().map(Identifier::Dns).collect();
    let mut order = begin(account, &names).await?;
    let result = prove(account, hosts, proof, (&mut order, publisher, published), within).await;
    take_back(&mut order).await;
    result
}

/// An order in which nothing is proven yet.
async fn begin(account: &Account, names: &[Identifier]) -> Result<Order, Error> {
    let fail = |error| refused(error, &account.retry_after);
    for _ in 0..ROUNDS {
        let mut order = account.inner.new_order(&NewOrder::new(names)).await.map_err(fail)?;
        if !take_back(&mut order).await {
            return Ok(order);
        }
    }
    Err(proven_before())
}

fn proven_before() -> Error {
    let text = "it holds hosts for proven though that was taken back".to_owned();
    Error::Refused { text, retry_after: None, nonce: false }
}

/// What was proven in an order counts for no other one; whether there was anything.
async fn take_back(order: &mut Order) -> bool {
    let mut proven = false;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        // The library remembers how it was when it was first looked at.
        if authorization.refresh().await.is_ok() && authorization.status == AuthorizationStatus::Valid {
            proven = true;
            if let Err(error) = authorization.deactivate().await {
                tracing::warn!(%error, "what was proven to an authority was not taken back");
            }
        }
    }
    proven
}

async fn prove(
    account: &Account,
    hosts: &[String],
    proof: Proof,
    (order, publisher, published): (&mut Order, &dyn Publisher, &mut Vec<Challenge>),
    within: Duration,
) -> Result<Issued, Error> {
    let fail = |error| refused(error, &account.retry_after);
    // All at once: an authority may look at one host while the next is published.
    let mut pending = BTreeSet::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(fail)?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => return Err(proven_before()),
            _ => continue,
        }
        let host = authorization.identifier().to_string();
        let Some(handle) = authorization.challenge(proof.kind()) else {
            return Err(Error::NoChallenge { kind: proof.as_str(), host });
        };
        let key_authorization = handle.key_authorization().as_str().to_owned();
        let challenge = Challenge { host, token: handle.token.clone(), key_authorization };
        published.push(challenge.clone());
        let host = challenge.host.clone();
        let shown = publisher.publish(&challenge).await;
        shown.map_err(|reason| Error::Publish { host: host.clone(), reason })?;
        pending.insert(host);
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(fail)?;
        if !pending.contains(&authorization.identifier().to_string()) {
            continue;
        }
        if let Some(mut challenge) = authorization.challenge(proof.kind()) {
            challenge.set_ready().await.map_err(fail)?;
        }
    }
    let patience = RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(within);
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        ended => {
            let reasons = reasons(order).await;
            return Err(match ended {
                _ if !reasons.is_empty() => {
                    Error::Refused { text: reasons.join("; "), retry_after: None, nonce: false }
                }
                Err(instant_acme::Error::Timeout(_)) => Error::Late(within.as_secs()),
                Err(error) => fail(error),
                Ok(status) => Error::Refused {
                    text: format!("the order has become {status:?}, and why was not said"),
                    retry_after: None,
                    nonce: false,
                },
            });
        }
    }
    let key = rcgen::KeyPair::generate().map_err(|error| Error::Key(error.to_string()))?;
    let mut request = rcgen::CertificateParams::new(hosts).map_err(|error| Error::Key(error.to_string()))?;
    request.distinguished_name = rcgen::DistinguishedName::new();
    let request = request.serialize_request(&key).map_err(|error| Error::Key(error.to_string()))?;
    order.finalize_csr(request.der()).await.map_err(fail)?;
    let chain = order.poll_certificate(&patience).await.map_err(fail)?;
    Issued::new(chain, &key, hosts)
}

/// What each host's challenge has failed of.
async fn reasons(order: &mut Order) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let host = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(problems.map(|problem| format!("{host}: {}", words(problem))));
    }
    reasons
}
