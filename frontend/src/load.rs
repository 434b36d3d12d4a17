//! What the server is asked for, and asked again when it has changed.

use api::http::Problem;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde::de::DeserializeOwned;

use crate::client;
use crate::desktop::Desktop;

/// Something that comes from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Load<T> {
    /// It was asked for.
    Waiting,
    /// It is this, or was until a moment ago.
    Ready(T),
    /// It can't be had.
    Failed(Problem),
}

/// Asks for the path that `path` names, again whenever a signal that `path`
/// reads changes. What is known of the same path stays until the answer comes.
pub fn load<T>(path: impl Fn() -> Option<String> + 'static) -> RwSignal<Load<T>>
where
    T: DeserializeOwned + Clone + PartialEq + Send + Sync + 'static,
{
    let loaded = RwSignal::new(Load::Waiting);
    let newest = StoredValue::new(0_u32);
    Effect::new(move |before: Option<Option<String>>| {
        let path = path();
        if before.flatten() != path {
            loaded.set(Load::Waiting);
        }
        let asked = newest.get_value() + 1;
        newest.set_value(asked);
        if let Some(path) = path.clone() {
            let desktop = Desktop::get();
            spawn_local(async move {
                let answer = client::get(&path).await;
                // Of two answers the one that was asked for last counts; and the
                // window may be closed.
                if newest.try_get_value() != Some(asked) {
                    return;
                }
                let answer = match answer {
                    Ok(value) => Load::Ready(value),
                    Err(problem) => {
                        desktop.noticed(&problem);
                        Load::Failed(problem)
                    }
                };
                if loaded.try_get_untracked().is_some_and(|shown| shown != answer) {
                    loaded.set(answer);
                }
            });
        }
        path
    });
    loaded
}
