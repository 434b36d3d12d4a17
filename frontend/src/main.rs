//! The desktop in the browser. What is shown comes from the server; what can be
//! decided without browser or server is in the library.
//!
//! Start at `shell.rs`; `desktop.rs` holds what all parts share, `live.rs` hears
//! of changes, `window/` has one file for each window.

// A component's properties are handed to it by value.
#![allow(clippy::needless_pass_by_value)]

mod client;
mod desktop;
mod icon;
mod live;
mod load;
mod login;
mod parts;
mod shell;
mod window;

fn main() {
    // A page that broke says so, instead of standing still.
    std::panic::set_hook(Box::new(|panic| {
        leptos::logging::error!("{panic}");
        let document = web_sys::window().and_then(|window| window.document());
        if let Some(note) = document.and_then(|document| document.get_element_by_id("broken")) {
            note.set_text_content(Some("The desktop has stopped by a mistake of ours. Load the page again."));
        }
    }));
    if let Some(starting) = web_sys::window()
        .and_then(|window| window.document())
        .and_then(|document| document.get_element_by_id("starting"))
    {
        starting.remove();
    }
    leptos::mount::mount_to_body(shell::Root);
}
