//! Hears of changes by server-sent events, and connects again when the line
//! breaks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use api::http::Event;
use frontend::retry;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{EventSource, MessageEvent};

use crate::client;
use crate::desktop::{Desktop, Link};

/// Listens while somebody is logged in.
pub fn listen(desktop: Desktop) {
    let line: Rc<RefCell<Option<Line>>> = Rc::default();
    // Who logs out and in again has another line: an older one keeps quiet.
    let turn = Rc::new(std::cell::Cell::new(0_u32));
    let logged_in = Memo::new(move |_| desktop.is_logged_in());
    Effect::new(move || {
        turn.set(turn.get() + 1);
        line.replace(None);
        if logged_in.get() {
            Caller { desktop, line: line.clone(), turn: turn.clone(), mine: turn.get() }.connect(0);
        }
    });
}

/// An open connection; dropped, it is closed.
struct Line {
    source: EventSource,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _error: Closure<dyn FnMut()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.source.set_onopen(None);
        self.source.set_onmessage(None);
        self.source.set_onerror(None);
        self.source.close();
    }
}

#[derive(Clone)]
struct Caller {
    desktop: Desktop,
    line: Rc<RefCell<Option<Line>>>,
    turn: Rc<std::cell::Cell<u32>>,
    mine: u32,
}

impl Caller {
    fn connect(self, failed: u32) {
        if self.turn.get() != self.mine {
            return;
        }
        let Ok(source) = EventSource::new("/api/v1/events") else { return };
        let opened = Rc::new(std::cell::Cell::new(false));
        let (caller, was_opened) = (self.clone(), opened.clone());
        let open = Closure::<dyn FnMut()>::new(move || {
            was_opened.set(true);
            caller.desktop.link.set(Link::Live);
            // What changed while nobody listened.
            caller.desktop.everything_changed();
        });
        let desktop = self.desktop;
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            let text = message.data().as_string().unwrap_or_default();
            match serde_json::from_str::<Event>(&text) {
                Ok(Event::Workspaces) => desktop.workspaces_changed.update(|count| *count += 1),
                Ok(Event::Apps { .. }) => desktop.apps_changed.update(|count| *count += 1),
                Ok(Event::Usage { .. }) => desktop.usage_changed.update(|count| *count += 1),
                // A newer server's: it may concern anything.
                Err(_) => desktop.everything_changed(),
            }
        });
        let caller = self.clone();
        let error = Closure::<dyn FnMut()>::new(move || {
            caller.clone().lost(if opened.get() { 0 } else { failed });
        });
        source.set_onopen(Some(open.as_ref().unchecked_ref()));
        source.set_onmessage(Some(message.as_ref().unchecked_ref()));
        source.set_onerror(Some(error.as_ref().unchecked_ref()));
        let line = Line { source, _open: open, _message: message, _error: error };
        self.line.replace(Some(line));
    }

    /// The line broke: waits, asks whether the session still lives, connects.
    fn lost(self, failed: u32) {
        if let Some(line) = self.line.borrow().as_ref() {
            line.source.close();
        }
        let wait = retry::delay(failed, js_sys::Math::random());
        self.desktop.link.set(Link::Lost(wait.div_ceil(1000)));
        // Not now: this runs inside a callback that the line owns.
        set_timeout(
            move || {
                if self.turn.get() != self.mine {
                    return;
                }
                self.line.replace(None);
                self.desktop.link.set(Link::Connecting);
                spawn_local(async move {
                    match client::get::<api::http::Session>("/api/v1/me").await {
                        Err(problem) if problem.status == 401 => self.desktop.noticed(&problem),
                        Err(_) => self.lost(failed.saturating_add(1)),
                        Ok(_) => self.connect(failed.saturating_add(1)),
                    }
                });
            },
            Duration::from_millis(wait.into()),
        );
    }
}
