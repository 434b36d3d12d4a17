//! Conditions: what a status says of its object, and since when. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition of a type as it is now: its status, reason and message, of that
/// generation of the object. The time of its last transition is the one from `before`,
/// unless its status has turned.
pub fn next(
    before: &[Condition],
    kind: &str,
    (status, reason, message): (&str, &str, String),
    generation: Option<i64>,
    now: Time,
) -> Condition {
    let same = before.iter().find(|before| before.type_ == kind).filter(|before| before.status == status);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_transition_time: same.map_or(now, |same| same.last_transition_time.clone()),
        observed_generation: generation,
    }
}
