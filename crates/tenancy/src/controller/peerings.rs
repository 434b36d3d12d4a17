//! Tells peerings how they are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use api::{Peering, PeeringStatus};

use super::{Context, Error, event, failed};
use crate::condition;
use crate::peering::State;

/// The condition's type.
const IN_FORCE: &str = "InForce";

/// Writes the status of the peerings in a namespace, as far as it is another than before.
pub async fn tell(context: &Context, namespace: &str) -> Result<(), Error> {
    for (name, state) in context.index.peerings(namespace) {
        let Some(peering) = context.peerings.get(&ObjectRef::new(&name).within(namespace)) else { continue };
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        let status = next(&peering, &state, now);
        if peering.status.as_ref() == Some(&status) {
            continue;
        }
        let peerings: Api<Peering> = Api::namespaced(context.client.clone(), namespace);
        // What is no longer said is taken away.
        let patch = json!({ "status": { "namespace": status.namespace, "conditions": status.conditions } });
        match peerings.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // It was removed meanwhile.
            Err(kube::Error::Api(answer)) if answer.code == 404 => continue,
            other => {
                other.map_err(failed(format!("writing the status of peering {name} in {namespace}")))?;
            }
        }
        // Waiting for somebody is no refusal.
        if matches!(state, State::Itself | State::NoRoom) {
            let (reason, note) = state.told();
            event::refused(&context.client, &peering.object_ref(&()), reason, &note).await;
        }
    }
    Ok(())
}

fn next(peering: &Peering, state: &State, now: Time) -> PeeringStatus {
    let old = peering.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let (reason, message) = state.told();
    let (status, namespace) = match state {
        State::InForce(namespace) => ("True", Some(namespace.clone())),
        _ => ("False", None),
    };
    let condition =
        condition::next(old, IN_FORCE, (status, reason, message), peering.metadata.generation, now);
    PeeringStatus { namespace, conditions: vec![condition] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peering_tells_since_when_it_is_in_force_and_where() {
        let at = |second| Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap());
        let mut peering = Peering::new("p", api::PeeringSpec::default());
        let waits = State::Waits { with: "bob/bank".into(), own: "ada/shop".into() };
        peering.status = Some(next(&peering, &waits, at(1)));
        assert_eq!(peering.status.as_ref(), Some(&next(&peering, &waits, at(2))));
        let in_force = next(&peering, &State::InForce("bank-x".into()), at(3));
        assert_eq!(in_force.namespace.as_deref(), Some("bank-x"));
        assert_eq!(in_force.conditions[0].last_transition_time, at(3));
        assert_eq!(in_force.conditions[0].status, "True");
        peering.status = Some(in_force);
        assert_eq!(next(&peering, &waits, at(4)).namespace, None);
    }
}
