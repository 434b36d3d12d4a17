//! The login.

use api::http::{Login, Problem, Session};
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::{Desktop, User};
use crate::parts::{Failure, Field};

#[component]
pub fn LoginForm(ended: bool) -> impl IntoView {
    let desktop = Desktop::get();
    let account = RwSignal::new(String::new());
    let password = RwSignal::new(String::new());
    let problem = RwSignal::new(None::<Problem>);
    let asking = RwSignal::new(false);
    let first = NodeRef::<leptos::html::Input>::new();
    first.on_load(|input| {
        let _ = input.focus();
    });
    let of_field = move |name: &'static str| {
        Signal::derive(move || {
            let problem = problem.get().filter(|problem| problem.field.as_deref() == Some(name))?;
            Some(crate::parts::sentence(&problem.detail))
        })
    };
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if asking.get_untracked() {
            return;
        }
        asking.set(true);
        problem.set(None);
        let login = Login { account: account.get_untracked(), password: password.get_untracked() };
        spawn_local(async move {
            let answer = client::post::<Session>("/api/v1/login", &login).await;
            asking.set(false);
            match answer {
                Ok(session) => {
                    password.set(String::new());
                    desktop.user.set(User::Somebody(session));
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    view! {
        <main class="login">
            <form class="login-card" on:submit=submit novalidate>
                <Logo/>
                <h1>"Log in to Atoll"</h1>
                {ended.then(|| view! {
                    <p class="note" role="status">"Your session has ended. Log in to go on where you were."</p>
                })}
                {move || {
                    problem.get().filter(|problem| problem.field.is_none())
                        .map(|problem| view! { <Failure problem=problem/> })
                }}
                <Field id="account" label="Account" error=of_field("account")>
                    <input
                        id="account" name="account" autocomplete="username" autocapitalize="none" spellcheck="false"
                        aria-describedby="account-error" node_ref=first bind:value=account
                    />
                </Field>
                <Field id="password" label="Password" error=of_field("password")>
                    <input
                        id="password" name="password" type="password" autocomplete="current-password"
                        aria-describedby="password-error" bind:value=password
                    />
                </Field>
                <button class="primary" type="submit" aria-disabled=move || asking.get().to_string()>
                    {move || if asking.get() { "Logging in…" } else { "Log in" }}
                </button>
                <p class="help">"An operator of this cloud gives accounts and new passwords."</p>
            </form>
        </main>
    }
}

#[component]
pub fn Logo() -> impl IntoView {
    view! {
        <svg class="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
            <rect width="32" height="32" rx="8"></rect>
            <path d="M16 6a10 10 0 1 0 9.4 6.6"></path>
            <circle cx="22.6" cy="8.4" r="2.4"></circle>
        </svg>
    }
}
