//! Small parts that every window uses.

use api::http::Problem;
use frontend::place::{Place, Window};
use leptos::prelude::*;

use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::load::Load;

/// A link to a place in the desktop: followed without loading the page, unless
/// another tab is asked for.
#[component]
pub fn Link(
    #[prop(into)] to: Signal<Place>,
    #[prop(optional, into)] class: &'static str,
    children: Children,
) -> impl IntoView {
    let desktop = Desktop::get();
    let is_here = move || (desktop.place.get() == to.get()).then_some("page");
    view! {
        <a
            href=move || to.read().path()
            class=class
            aria-current=is_here
            on:click=move |event| {
                if event.button() == 0
                    && !(event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key())
                {
                    event.prevent_default();
                    desktop.go(to.get_untracked());
                }
            }
        >
            {children()}
        </a>
    }
}

/// A window: its title, a way to close it, and what is in it.
#[component]
pub fn Frame(
    #[prop(into)] title: Signal<String>,
    icon: &'static str,
    #[prop(optional)] back: Option<Window>,
    children: Children,
) -> impl IntoView {
    let desktop = Desktop::get();
    let heading = NodeRef::<leptos::html::H1>::new();
    // Who reads by ear or moves by keyboard begins at the new window.
    heading.on_load(|heading| {
        let _ = heading.focus();
    });
    let closed = back.unwrap_or(Window::Home);
    let label = if closed == Window::Home { "Close the window" } else { "Back" };
    let to = Signal::derive(move || desktop.place_of(closed.clone()));
    let escape = window_event_listener(leptos::ev::keydown, move |event| {
        if event.key() == "Escape" && !event.default_prevented() {
            desktop.go(to.get_untracked());
        }
    });
    on_cleanup(move || escape.remove());
    view! {
        <section class="window" aria-labelledby="window-title">
            <header class="window-bar">
                <Icon name=icon/>
                <h1 id="window-title" tabindex="-1" node_ref=heading>{title}</h1>
                <Link to=to class="window-close">
                    <Icon name="close"/>
                    <span class="unseen">{label}</span>
                </Link>
            </header>
            <div class="window-body">{children()}</div>
        </section>
    }
}

/// What is waited for.
#[component]
pub fn Waiting(what: &'static str) -> impl IntoView {
    view! {
        <p class="waiting" role="status">
            <span class="spinner" aria-hidden="true"></span>
            {format!("Waiting for {what}…")}
        </p>
    }
}

/// Why something failed and what to do.
#[component]
pub fn Failure(
    #[prop(into)] problem: Problem,
    #[prop(optional, into)] retry: Option<Callback<()>>,
) -> impl IntoView {
    view! {
        <div class="failure" role="alert">
            <Icon name="alert"/>
            <div>
                <strong>{problem.title.clone()}</strong>
                <p>{sentence(&problem.detail)}</p>
            </div>
            {retry.map(|retry| view! { <button on:click=move |_| retry.run(())>"Try again"</button> })}
        </div>
    }
}

/// A problem's words, as a sentence.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

/// Shows what was loaded, or what is waited for, or why there is nothing.
pub fn loaded<T, V>(
    value: RwSignal<Load<T>>,
    what: &'static str,
    again: RwSignal<u32>,
    show: impl Fn(T) -> V + Send + Sync + 'static,
) -> impl IntoView
where
    T: Clone + Send + Sync + 'static,
    V: IntoView + 'static,
{
    move || match value.get() {
        Load::Waiting => view! { <Waiting what=what/> }.into_any(),
        Load::Ready(value) => show(value).into_any(),
        Load::Failed(problem) => {
            let retry = Callback::new(move |()| {
                value.set(Load::Waiting);
                again.update(|count| *count += 1);
            });
            view! { <Failure problem=problem retry=retry/> }.into_any()
        }
    }
}

/// Nothing is there yet, and what to do about it.
#[component]
pub fn Empty(icon: &'static str, title: &'static str, children: Children) -> impl IntoView {
    view! {
        <div class="empty">
            <Icon name=icon/>
            <h2>{title}</h2>
            {children()}
        </div>
    }
}

/// A field of a form: its label, its help, and what is wrong with it.
#[component]
pub fn Field(
    #[prop(into)] id: String,
    #[prop(into)] label: String,
    #[prop(optional, into)] help: String,
    #[prop(optional)] required: bool,
    #[prop(into)] error: Signal<Option<String>>,
    children: Children,
) -> impl IntoView {
    let help_id = format!("{id}-help");
    let error_id = format!("{id}-error");
    view! {
        <div class="field" class:wrong=move || error.read().is_some()>
            <label for=id>
                {label}
                {required.then(|| view! { <span class="needed">"needed"</span> })}
            </label>
            {children()}
            {(!help.is_empty()).then(|| view! { <p class="help" id=help_id>{help}</p> })}
            <p class="field-error" id=error_id role="alert">{move || error.get()}</p>
        </div>
    }
}

/// How far an app has come, by `1/2`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AppState {
    Unknown,
    Starting,
    Ready,
    Removing,
}

impl AppState {
    pub fn of(app: &api::http::AppView) -> Self {
        match app.ready.split_once('/') {
            _ if app.removing => Self::Removing,
            Some((ready, all)) if ready == all => Self::Ready,
            Some(_) => Self::Starting,
            None => Self::Unknown,
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Self::Unknown => "state unknown",
            Self::Starting => "state starting",
            Self::Ready => "state good",
            Self::Removing => "state removing",
        }
    }

    pub fn words(self, ready: &str) -> String {
        match self {
            Self::Unknown => "waiting for its first report".to_owned(),
            Self::Starting => format!("starting, {ready} ready"),
            Self::Ready => "ready".to_owned(),
            Self::Removing => "being removed".to_owned(),
        }
    }
}

/// An app's tile: the same letter and colour each time.
#[component]
pub fn Tile(#[prop(into)] name: String) -> impl IntoView {
    // FNV-1a, whose high bits are mixed best.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hue = hash >> 29;
    let letter = name.chars().next().map(|letter| letter.to_uppercase().to_string());
    view! { <span class=format!("tile hue-{hue}") aria-hidden="true">{letter}</span> }
}
