//! How to reach Kubernetes: by the command, or with a token.

use api::http::{IssuedToken, Login, Problem};
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::parts::{Failure, Field, Frame, sentence};

#[component]
pub fn Access() -> impl IntoView {
    let desktop = Desktop::get();
    let account = move || desktop.account().map(|session| session.account).unwrap_or_default();
    let login = Signal::derive(move || format!("atoll login --account {}", account()));
    let kubeconfig =
        Signal::derive(move || format!("atoll kubeconfig --account {} > {}.conf", account(), account()));
    view! {
        <Frame title="Access" icon="access">
            <p class="lead">
                "kubectl, Helm and other tools work with your own kubeconfig. It shows them your workspaces and nothing else."
            </p>
            <h2>"By the command"</h2>
            <Line words="Log in" text=login/>
            <Line words="Write a kubeconfig" text=kubeconfig/>
            <h2>"With a token"</h2>
            <TokenForm/>
        </Frame>
    }
}

/// Something to be copied.
#[component]
fn Line(words: &'static str, text: Signal<String>) -> impl IntoView {
    view! {
        <div class="copied">
            <span class="faint">{words}</span>
            <code tabindex="0">{text}</code>
            <Copy text=text words=words/>
        </div>
    }
}

#[component]
fn Copy(text: Signal<String>, words: &'static str) -> impl IntoView {
    let done = RwSignal::new(None::<bool>);
    let copy = move |_| {
        let promise = window().navigator().clipboard().write_text(&text.read_untracked());
        spawn_local(async move {
            let result = wasm_bindgen_futures::JsFuture::from(promise).await;
            done.try_set(Some(result.is_ok()));
        });
    };
    view! {
        <button class="quiet" on:click=copy>
            <Icon name="copy"/>
            <span role="status">{move || match done.get() {
                None => "Copy",
                Some(true) => "Copied",
                Some(false) => "Select and copy it by hand",
            }}</span>
            <span class="unseen">{format!(": {words}")}</span>
        </button>
    }
}

#[component]
fn TokenForm() -> impl IntoView {
    let desktop = Desktop::get();
    let password = RwSignal::new(String::new());
    let issued = RwSignal::new(None::<String>);
    let until = RwSignal::new(0_u64);
    let wrong = RwSignal::new(None::<String>);
    let problem = RwSignal::new(None::<Problem>);
    let asking = RwSignal::new(false);
    // It is nowhere else on the page, and gone with the window.
    on_cleanup(move || {
        let _ = issued.try_set(None);
    });
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if asking.get_untracked() {
            return;
        }
        problem.set(None);
        wrong.set(None);
        let Some(session) = desktop.account() else { return };
        asking.set(true);
        let login = Login { account: session.account, password: password.get_untracked() };
        spawn_local(async move {
            let answer = client::post::<IssuedToken>("/api/v1/tokens", &login).await;
            let _ = asking.try_set(false);
            match answer {
                Ok(token) => {
                    password.try_set(String::new());
                    until.try_set(token.expires);
                    issued.try_set(Some(token.token));
                }
                // Here 401 speaks of the password, not of the session.
                Err(error) if error.status == 401 => {
                    wrong.try_set(Some("This is not your password. Try again.".to_owned()));
                }
                Err(error) if error.field.is_some() => {
                    wrong.try_set(Some(sentence(&error.detail)));
                }
                Err(error) => {
                    problem.try_set(Some(error));
                }
            }
        });
    };
    let day = move || {
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_f64(until.get() as f64 * 1000.0));
        String::from(date.to_locale_date_string("default", &wasm_bindgen::JsValue::UNDEFINED))
    };
    move || {
        match issued.get() {
        Some(token) => {
            let text = Signal::stored(token);
            view! {
                <div class="note">
                    <p>
                        "This is your token. It is shown this once: keep it where you keep passwords. It is valid until "
                        {day} "."
                    </p>
                </div>
                <Line words="Token" text=text/>
                <button on:click=move |_| issued.set(None)>"Hide it"</button>
            }
            .into_any()
        }
        None => view! {
            <form class="form" on:submit=submit novalidate>
                <p>"For programs that can't run the command. Whoever has it is you: it is made only with your password."</p>
                <Field id="token-password" label="Your password" error=wrong>
                    <input
                        id="token-password" type="password" autocomplete="current-password"
                        aria-describedby="token-password-error" bind:value=password
                    />
                </Field>
                {move || problem.get().map(|problem| view! { <Failure problem=problem/> })}
                <div class="buttons">
                    <button class="primary" type="submit" aria-disabled=move || asking.get().to_string()>
                        {move || if asking.get() { "Making a token…" } else { "Make a token" }}
                    </button>
                </div>
            </form>
        }
        .into_any(),
    }
    }
}
