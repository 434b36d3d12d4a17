//! The desktop when no window is open: the workspace's apps, and how it stands.

use api::http::AppView;
use api::usage::Bill;
use frontend::place::Window;
use frontend::units;
use leptos::prelude::*;

use super::{money_path, month};
use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::load::{Load, load};
use crate::parts::{AppState, Link, Tile, loaded, sentence};

#[component]
pub fn Home(workspace: String) -> impl IntoView {
    let desktop = Desktop::get();
    let again = RwSignal::new(0);
    let name = workspace.clone();
    let apps = load::<Vec<AppView>>(move || {
        desktop.apps_changed.track();
        again.track();
        Some(format!("/api/v1/workspaces/{name}/apps"))
    });
    let name = workspace.clone();
    let bill = load::<Bill>(move || {
        desktop.usage_changed.track();
        Some(money_path(&name, "bill", month(0)))
    });
    let title = Memo::new({
        let workspace = workspace.clone();
        move |_| {
            let view = desktop.workspace_view();
            view.map(|view| view.display_name).filter(|title| !title.is_empty()).unwrap_or(workspace.clone())
        }
    });
    let ready = move || match &*apps.read() {
        Load::Ready(apps) => {
            let ready = apps.iter().filter(|app| AppState::of(app) == AppState::Ready).count();
            format!("{ready} of {}", apps.len())
        }
        _ => "…".to_owned(),
    };
    let spent = move || match &*bill.read() {
        Load::Ready(bill) => units::money(bill.total_micros, &bill.currency),
        Load::Waiting => "…".to_owned(),
        Load::Failed(_) => "not known now".to_owned(),
    };
    let to_apps = Signal::derive(move || desktop.place_of(Window::Apps));
    let to_usage = Signal::derive(move || desktop.place_of(Window::Usage));
    let to_store = Signal::derive(move || desktop.place_of(Window::Store));
    view! {
        <div class="home">
            <header class="home-head">
                <h1 tabindex="-1">{title}</h1>
                {move || desktop.workspace_view().map(|view| view! {
                    <p class="home-role">
                        {format!("{} · you are its {}", view.name, view.role.name())}
                    </p>
                    {(!view.ready).then(|| view! {
                        <p class="note" role="status">
                            <span class="spinner" aria-hidden="true"></span>
                            {if view.message.is_empty() {
                                "The workspace is being made.".to_owned()
                            } else {
                                sentence(&view.message)
                            }}
                        </p>
                    })}
                })}
            </header>
            <div class="cards">
                <Link to=to_apps class="card">
                    <span class="card-label">"Apps ready"</span>
                    <strong class="card-value">{ready}</strong>
                </Link>
                <Link to=to_usage class="card">
                    <span class="card-label">"Spent this month"</span>
                    <strong class="card-value">{spent}</strong>
                </Link>
            </div>
            <h2 class="unseen">"Apps"</h2>
            {loaded(apps, "the workspace's apps", again, move |apps| view! {
                <ul class="launcher">
                    {apps.into_iter().map(|app| view! { <li><Launch app=app/></li> }).collect_view()}
                    <li>
                        <Link to=to_store class="launch">
                            <span class="tile add"><Icon name="add"/></span>
                            <span class="launch-name">"Install an app"</span>
                        </Link>
                    </li>
                </ul>
            })}
        </div>
    }
}

/// An app on the desktop: opens its address, or the list where it has none.
#[component]
fn Launch(app: AppView) -> impl IntoView {
    let desktop = Desktop::get();
    let state = AppState::of(&app);
    let words = state.words(&app.ready);
    let title = if app.title.is_empty() { app.name.clone() } else { app.title.clone() };
    let inner = view! {
        <Tile name=title.clone()/>
        <span class="launch-name">{title}</span>
        <span class=state.class()><span class="dot" aria-hidden="true"></span>{words}</span>
    };
    match app.addresses.first().filter(|address| state == AppState::Ready && address.starts_with("https://"))
    {
        Some(address) => view! {
            <a class="launch" href=address.clone() target="_blank" rel="noopener noreferrer">{inner}</a>
        }
        .into_any(),
        None => {
            let to = Signal::derive(move || desktop.place_of(Window::Apps));
            view! { <Link to=to class="launch">{inner}</Link> }.into_any()
        }
    }
}
