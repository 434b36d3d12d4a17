//! Tells Ingresses and Gateways by events what becomes of their certificates, each
//! thing once.

use std::collections::BTreeMap;

use acme::plan::{Decision, Key, Planned, Time, Validity};
use gateway::gateway_api::Gateway;
use gateway::object::{Id, Kind};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};

use crate::controller::FIELD_MANAGER;
use crate::controller::gateway::LONGEST_NOTE;

/// The object for an event, and for what goes with it.
pub async fn owner(
    client: &Client,
    (kind, id): &(Kind, Id),
) -> Result<Option<(ObjectReference, OwnerReference)>, kube::Error> {
    fn both<K: Resource<DynamicType = ()>>(object: &K) -> Option<(ObjectReference, OwnerReference)> {
        Some((object.object_ref(&()), object.owner_ref(&())?))
    }
    Ok(if *kind == Kind::Gateway {
        let api: Api<Gateway> = Api::namespaced(client.clone(), &id.namespace);
        api.get_opt(&id.name).await?.as_ref().and_then(both)
    } else {
        let api: Api<Ingress> = Api::namespaced(client.clone(), &id.namespace);
        api.get_opt(&id.name).await?.as_ref().and_then(both)
    })
}

/// A time as people read it.
pub fn date(at: Time) -> String {
    k8s_openapi::jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

pub struct Telling {
    client: Client,
    /// What was said last, by the certificate and who was told.
    told: BTreeMap<(Key, Kind, Id), String>,
}

/// What is to be said of a plan, if anything.
fn words(planned: &Planned, lost: &[String]) -> Option<(&'static str, String)> {
    let mut left_out = planned.left_out.clone();
    left_out.extend(lost.iter().map(|host| format!("{host}: it is no host of this namespace")));
    let hosts = planned.hosts.join(", ");
    let (reason, mut text) = match &planned.decision {
        Decision::Order => ("CertificateOrdered", format!("for {hosts}: {}", planned.reason)),
        // It was had, and is on its way to whoever looks.
        Decision::Wait(_) if planned.reason == acme::plan::JUST_NOW => return None,
        Decision::Never => ("CertificateRefused", planned.reason.clone()),
        Decision::Wait(_) if planned.served && left_out.is_empty() && planned.reason == acme::plan::VALID => {
            return None;
        }
        Decision::Wait(_) if planned.reason == acme::plan::VALID => ("CertificateIncomplete", String::new()),
        Decision::Wait(until) => (
            "CertificateDelayed",
            format!("for {hosts}: {}; tried again after {}", planned.reason, date(*until)),
        ),
    };
    if !left_out.is_empty() {
        let all = left_out.join("; ");
        text = if text.is_empty() { format!("left out: {all}") } else { format!("{text}. Left out: {all}") };
    }
    text = format!("Secret {}: {text}", planned.key.secret);
    text.truncate(text.floor_char_boundary(LONGEST_NOTE));
    Some((reason, text))
}

impl Telling {
    pub fn new(client: Client) -> Self {
        Self { client, told: BTreeMap::new() }
    }

    pub fn knows(&self, key: &Key) -> bool {
        self.told.keys().any(|(known, _, _)| known == key)
    }

    pub fn forget(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.told.retain(|(key, _, _), _| wanted(key));
    }

    pub async fn planned(&mut self, owner: &(Kind, Id), planned: &Planned, lost: &[String]) {
        match words(planned, lost) {
            Some((reason, text)) => self.tell(owner, &planned.key, (reason, &text)).await,
            None => {
                self.told.insert((planned.key.clone(), owner.0, owner.1.clone()), String::new());
            }
        }
    }

    pub async fn got(&mut self, owner: &(Kind, Id), planned: &Planned, validity: &Validity) {
        let (until, renewed) = (date(validity.not_after), date(validity.renewal()));
        let hosts = planned.hosts.join(", ");
        let text = format!(
            "Secret {}: for {hosts}, valid until {until}, renewed after {renewed}",
            planned.key.secret
        );
        self.tell(owner, &planned.key, ("CertificateIssued", &text)).await;
    }

    pub async fn tell(&mut self, owner: &(Kind, Id), key: &Key, (reason, text): (&str, &str)) {
        let place = (key.clone(), owner.0, owner.1.clone());
        if self.told.get(&place).is_some_and(|told| told == text) {
            return;
        }
        if let Err(error) = self.publish(owner, reason, text).await {
            tracing::debug!(%error, certificate = %key, "an event was not written");
        }
        self.told.insert(place, text.to_owned());
    }

    async fn publish(&self, of: &(Kind, Id), reason: &str, text: &str) -> Result<(), kube::Error> {
        let Some((reference, _)) = owner(&self.client, of).await? else { return Ok(()) };
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        let good = matches!(reason, "CertificateOrdered" | "CertificateIssued");
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(text.to_owned()),
            action: "GetCertificate".to_owned(),
            secondary: None,
        };
        Recorder::new(self.client.clone(), reporter).publish(&event, &reference).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(decision: Decision, reason: &str) -> Planned {
        Planned {
            key: Key { namespace: "shop".into(), secret: "web-tls".into() },
            workspace: "w".into(),
            hosts: vec!["a.example".into()],
            served: reason == acme::plan::VALID,
            decision,
            reason: reason.into(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn each_is_told_what_and_why_and_when() {
        let none = |planned: &Planned| words(planned, &[]);
        assert_eq!(none(&planned(Decision::Wait(9), acme::plan::VALID)), None);
        let lost = words(&planned(Decision::Wait(9), acme::plan::VALID), &["b.example".to_owned()]).unwrap();
        let text = "Secret web-tls: left out: b.example: it is no host of this namespace";
        assert_eq!(lost, ("CertificateIncomplete", text.to_owned()));
        let delayed = none(&planned(Decision::Wait(60), "no address")).unwrap();
        let text = "Secret web-tls: for a.example: no address; tried again after 1970-01-01T00:01:00Z";
        assert_eq!(delayed, ("CertificateDelayed", text.to_owned()));
        assert_eq!(none(&planned(Decision::Wait(9), acme::plan::JUST_NOW)), None);
        assert_eq!(none(&planned(Decision::Order, "there is none yet")).unwrap().0, "CertificateOrdered");
        let long = none(&planned(Decision::Never, &"\u{e9}".repeat(2000))).unwrap();
        assert!(long.0 == "CertificateRefused" && long.1.len() <= LONGEST_NOTE);
    }
}
