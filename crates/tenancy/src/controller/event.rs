//! Events: what is refused is told on the object, beside its condition.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::FIELD_MANAGER;

/// How long an event's note may be.
const LONGEST: usize = 1024;

/// Tells an object's people that something of it is refused, and why. The condition says
/// so too, and stays: an event that can't be written is no reason to stop.
pub async fn refused(client: &Client, object: &ObjectReference, reason: &str, note: &str) {
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(short(note)),
        action: "Refuse".to_owned(),
        secondary: None,
    };
    if let Err(error) = Recorder::new(client.clone(), reporter).publish(&event, object).await {
        tracing::warn!(%error, reason, "writing an event");
    }
}

fn short(note: &str) -> String {
    let end = (0..=LONGEST.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_as_long_as_the_api_server_takes_it() {
        assert_eq!(short("why"), "why");
        assert_eq!(short(&"x".repeat(2000)).len(), LONGEST);
        assert_eq!(short(&format!("x{}", "\u{e9}".repeat(1000))).len(), LONGEST - 1);
    }
}
