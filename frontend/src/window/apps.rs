//! The workspace's apps: state, addresses, removal.

use api::Role;
use api::http::{AppView, Problem};
use frontend::place::{Window, encode};
use gloo_net::http::Method;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::load::load;
use crate::parts::{AppState, Empty, Failure, Frame, Link, Tile, loaded};

#[component]
pub fn Apps(workspace: String) -> impl IntoView {
    let desktop = Desktop::get();
    let again = RwSignal::new(0);
    let name = workspace.clone();
    let apps = load::<Vec<AppView>>(move || {
        desktop.apps_changed.track();
        again.track();
        Some(format!("/api/v1/workspaces/{name}/apps"))
    });
    // Kept here: the list is drawn anew whenever something changes.
    let asked = RwSignal::new(None::<String>);
    let to_store = Signal::derive(move || desktop.place_of(Window::Store));
    view! {
        <Frame title="Apps" icon="apps">
            {loaded(apps, "the workspace's apps", again, move |apps| {
                if apps.is_empty() {
                    return view! {
                        <Empty icon="apps" title="No apps yet">
                            <p>"What you install from the store appears here."</p>
                            <Link to=to_store class="button primary">"Open the store"</Link>
                        </Empty>
                    }.into_any();
                }
                let workspace = workspace.clone();
                view! {
                    <ul class="rows">
                        {apps.into_iter().map(|app| view! {
                            <li><Row app=app workspace=workspace.clone() asked=asked/></li>
                        }).collect_view()}
                    </ul>
                    <p class="below"><Link to=to_store class="button"><Icon name="add"/>"Install an app"</Link></p>
                }.into_any()
            })}
        </Frame>
    }
}

#[component]
fn Row(app: AppView, workspace: String, asked: RwSignal<Option<String>>) -> impl IntoView {
    let desktop = Desktop::get();
    let state = AppState::of(&app);
    let title = if app.title.is_empty() { app.name.clone() } else { app.title.clone() };
    let may_change = move || desktop.workspace_view().is_some_and(|view| view.role >= Role::Developer);
    let name = StoredValue::new(app.name.clone());
    let is_asked = Memo::new(move |_| asked.read().as_deref() == Some(name.read_value().as_str()));
    let heading = title.clone();
    view! {
        <article class="row" aria-label=title.clone() data-app=app.name.clone()>
            <Tile name=title.clone()/>
            <div class="row-main">
                <h2>{heading}</h2>
                <p class="faint">{app.name.clone()}</p>
                <ul class="addresses">
                    {app.addresses.iter().filter(|address| address.starts_with("https://")).map(|address| view! {
                        <li>
                            <a href=address.clone() target="_blank" rel="noopener noreferrer">
                                {address.trim_start_matches("https://").to_owned()}
                                <Icon name="open"/>
                                <span class="unseen">"(opens in a new tab)"</span>
                            </a>
                        </li>
                    }).collect_view()}
                </ul>
            </div>
            <p class=state.class()><span class="dot" aria-hidden="true"></span>{state.words(&app.ready)}</p>
            {move || (may_change() && state != AppState::Removing && !is_asked.get()).then(|| view! {
                <button class="quiet" on:click=move |_| asked.set(Some(name.get_value()))>
                    <Icon name="remove"/>
                    <span class="unseen">{format!("Remove {}", name.get_value())}</span>
                </button>
            })}
            {move || is_asked.get().then(|| view! {
                <Removal workspace=workspace.clone() app=name.get_value() asked=asked/>
            })}
        </article>
    }
}

/// Asks whether an app is really to go, and removes it.
#[component]
fn Removal(workspace: String, app: String, asked: RwSignal<Option<String>>) -> impl IntoView {
    let desktop = Desktop::get();
    let problem = RwSignal::new(None::<Problem>);
    let removing = RwSignal::new(false);
    let keep = NodeRef::<leptos::html::Button>::new();
    keep.on_load(|button| {
        let _ = button.focus();
    });
    let path = format!("/api/v1/workspaces/{workspace}/apps/{}", encode(&app));
    let remove = move |_| {
        if removing.get_untracked() {
            return;
        }
        removing.set(true);
        let path = path.clone();
        spawn_local(async move {
            let answer = client::act(Method::DELETE, &path).await;
            // The list may have been drawn anew meanwhile.
            let _ = removing.try_set(false);
            match answer {
                Ok(_) => {
                    asked.try_set(None);
                    desktop.apps_changed.update(|count| *count += 1);
                }
                Err(error) => {
                    desktop.noticed(&error);
                    problem.try_set(Some(error));
                }
            }
        });
    };
    view! {
        <div class="confirm" role="group" aria-label="Confirm">
            <p>"Remove " <strong>{app}</strong> " and its data? This can't be undone."</p>
            {move || problem.get().map(|problem| view! { <Failure problem=problem/> })}
            <div class="buttons">
                <button class="danger" on:click=remove>
                    {move || if removing.get() { "Removing…" } else { "Remove" }}
                </button>
                <button node_ref=keep on:click=move |_| asked.set(None)>"Keep"</button>
            </div>
        </div>
    }
}
