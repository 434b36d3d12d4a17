//! The cloud's accounts, and making one: for operators.

use api::http::{AccountView, NewAccount, Problem};
use api::names::check_workspace_name;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::load::load;
use crate::parts::{Failure, Field, Frame, loaded, sentence};

#[component]
pub fn Accounts() -> impl IntoView {
    let changed = RwSignal::new(0_u32);
    let accounts = load::<Vec<AccountView>>(move || {
        changed.track();
        Some("/api/v1/accounts".to_owned())
    });
    view! {
        <Frame title="Accounts" icon="accounts">
            {loaded(accounts, "the accounts", changed, move |all| view! {
                <ul class="rows">
                    {all.into_iter().map(|account| view! { <li><Row account=account/></li> }).collect_view()}
                </ul>
            })}
            <NewForm changed=changed/>
        </Frame>
    }
}

#[component]
fn Row(account: AccountView) -> impl IntoView {
    let title =
        if account.display_name.is_empty() { account.name.clone() } else { account.display_name.clone() };
    let (class, words) = match (account.disabled, account.operator) {
        (true, _) => ("state removing", "shut out"),
        (false, true) => ("state good", "operator"),
        (false, false) => ("state good", "active"),
    };
    let (label, name) = (title.clone(), account.name.clone());
    view! {
        <article class="row" aria-label=label data-account=name>
            <Icon name="accounts"/>
            <div class="row-main">
                <h2>{title}</h2>
                <p class="faint">{account.name}</p>
            </div>
            <p class=class><span class="dot" aria-hidden="true"></span>{words}</p>
        </article>
    }
}

#[component]
fn NewForm(changed: RwSignal<u32>) -> impl IntoView {
    let desktop = Desktop::get();
    let name = RwSignal::new(String::new());
    let title = RwSignal::new(String::new());
    let password = RwSignal::new(String::new());
    let name_error = RwSignal::new(None::<String>);
    let title_error = RwSignal::new(None::<String>);
    let password_error = RwSignal::new(None::<String>);
    let problem = RwSignal::new(None::<Problem>);
    let making = RwSignal::new(false);
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if making.get_untracked() {
            return;
        }
        problem.set(None);
        title_error.set(None);
        let new = NewAccount {
            name: name.get_untracked().trim().to_owned(),
            display_name: title.get_untracked().trim().to_owned(),
            password: password.get_untracked(),
        };
        let wrong_name = check_workspace_name(&new.name).err().map(sentence);
        let no_password = new.password.is_empty().then(|| "This is needed. Fill it in.".to_owned());
        let wrong = wrong_name.is_some() || no_password.is_some();
        name_error.set(wrong_name);
        password_error.set(no_password);
        if wrong {
            return;
        }
        making.set(true);
        spawn_local(async move {
            let answer = client::post::<AccountView>("/api/v1/accounts", &new).await;
            let _ = making.try_set(false);
            match answer {
                Ok(_) => {
                    for field in [name, title, password] {
                        field.try_set(String::new());
                    }
                    changed.try_update(|count| *count += 1);
                }
                Err(error) => {
                    desktop.noticed(&error);
                    let words = Some(sentence(&error.detail));
                    match error.field.as_deref() {
                        Some("name") => name_error.try_set(words),
                        Some("displayName") => title_error.try_set(words),
                        Some("password") => password_error.try_set(words),
                        _ => problem.try_set(Some(error)).map(|_| None),
                    };
                }
            }
        });
    };
    view! {
        <form class="form boxed" on:submit=submit novalidate>
            <h2>"Make an account"</h2>
            <Field
                id="account-name" label="Name" required=true error=name_error
                help="Small letters, digits and hyphens. It can't be changed."
            >
                <input
                    id="account-name" autocomplete="off" autocapitalize="none" spellcheck="false"
                    aria-describedby="account-name-help account-name-error" bind:value=name
                />
            </Field>
            <Field id="account-title" label="Title" error=title_error help="What people call it.">
                <input
                    id="account-title" autocomplete="off"
                    aria-describedby="account-title-help account-title-error" bind:value=title
                />
            </Field>
            <Field
                id="account-password" label="Password" required=true error=password_error
                help="Its first password, of 8 characters or more. Hand it over on a safe way."
            >
                <input
                    id="account-password" type="password" autocomplete="new-password"
                    aria-describedby="account-password-help account-password-error" bind:value=password
                />
            </Field>
            {move || problem.get().map(|problem| view! { <Failure problem=problem/> })}
            <div class="buttons">
                <button class="primary" type="submit" aria-disabled=move || making.get().to_string()>
                    {move || if making.get() { "Making it…" } else { "Make the account" }}
                </button>
            </div>
        </form>
    }
}
