//! The stream of changes: server-sent events that say what to ask for again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::sse;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::time::MissedTickBehavior;

use crate::State;
use crate::error::Error;
use crate::guard::{Identified, recognise};

/// How many streams each account has.
#[derive(Default)]
pub(crate) struct Streams {
    counts: Arc<Mutex<HashMap<String, u32>>>,
}

/// One stream's place; it is free again when this is dropped.
pub(crate) struct Place {
    counts: Arc<Mutex<HashMap<String, u32>>>,
    account: String,
}

impl Streams {
    pub fn take(&self, account: &str, limit: u32) -> Result<Place, Error> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(account.to_owned()).or_default();
        if *count >= limit {
            return Err(Error::TooMany { what: "you have too many pages open", seconds: 30 });
        }
        *count += 1;
        Ok(Place { counts: self.counts.clone(), account: account.to_owned() })
    }

    pub fn open(&self) -> u32 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

struct Stage {
    state: State,
    identified: Identified,
    changes: BoxStream<'static, api::http::Event>,
    heartbeat: tokio::time::Interval,
    closing: tokio::sync::watch::Receiver<bool>,
    _place: Place,
}

/// The changes that the caller may see. It ends with the session, with the
/// backend's stream, and when the server closes.
pub(crate) fn stream(
    state: State,
    identified: Identified,
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>>, Error> {
    let place = state.streams.take(&identified.caller.account, state.settings.streams)?;
    // From before the first answer, so that nothing is lost between them.
    let changes = state.backends.cloud.changes(&identified.caller);
    let mut heartbeat = tokio::time::interval(state.settings.heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let closing = state.closing.subscribe();
    let stage = Stage { state, identified, changes, heartbeat, closing, _place: place };
    Ok(futures::stream::unfold(stage, async |mut stage| {
        let event = stage.next().await?;
        Some((Ok(event), stage))
    }))
}

impl Stage {
    async fn next(&mut self) -> Option<sse::Event> {
        let closing = &mut self.closing;
        tokio::select! {
            () = async { drop(closing.wait_for(|closing| *closing).await) } => None,
            change = self.changes.next() => sse::Event::default().json_data(change?).ok(),
            // The first one comes at once, and shows the page that it is connected.
            _ = self.heartbeat.tick() => {
                recognise(&self.state, self.identified.proof.clone()).await.ok()?;
                Some(sse::Event::default().comment("alive"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_so_many_streams_and_others_theirs() {
        let streams = Streams::default();
        let first = streams.take("ada", 2).unwrap();
        let _second = streams.take("ada", 2).unwrap();
        assert!(streams.take("ada", 2).is_err());
        let _other = streams.take("eve", 2).unwrap();
        drop(first);
        assert!(streams.take("ada", 2).is_ok());
        assert_eq!(streams.open(), 2);
        drop((_second, _other));
        assert!(streams.counts.lock().unwrap().is_empty(), "nothing is kept of who has none");
    }
}
