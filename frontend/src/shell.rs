//! The desktop around the windows: bar, dock, and what is there when no window
//! is open.

use api::http::Problem;
use frontend::place::{Place, Window};
use gloo_net::http::Method;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::{Desktop, Link as Line, User};
use crate::icon::Icon;
use crate::load::Load;
use crate::login::{LoginForm, Logo};
use crate::parts::{Failure, Link, Waiting};
use crate::{live, window};

#[component]
pub fn Root() -> impl IntoView {
    let desktop = Desktop::provide();
    live::listen(desktop);
    // What is shown changes with who is there, not with every word about them.
    let shown = Memo::new(move |_| match desktop.user.get() {
        User::Somebody(session) => User::Somebody(session),
        other => other,
    });
    view! {
        <p id="broken" class="broken" role="alert"></p>
        {move || match shown.get() {
            User::Asking => view! {
                <main class="login"><Waiting what="the server to say who is logged in"/></main>
            }.into_any(),
            User::Unknown(problem) => {
                let retry = Callback::new(move |()| {
                    desktop.user.set(User::Asking);
                    desktop.ask();
                });
                view! { <main class="login"><Failure problem=problem retry=retry/></main> }.into_any()
            }
            User::Nobody { ended } => view! { <LoginForm ended=ended/> }.into_any(),
            User::Somebody(_) => view! { <Shell/> }.into_any(),
        }}
    }
}

#[component]
fn Shell() -> impl IntoView {
    let desktop = Desktop::get();
    let open = Memo::new(move |_| {
        let place = desktop.place.get();
        let workspace = desktop.workspace().filter(|_| place.window.needs_workspace());
        (place.window, workspace)
    });
    view! {
        <a class="skip" href="#window" on:click=move |event| {
            event.prevent_default();
            if let Some(heading) = document().query_selector("main h1").ok().flatten() {
                use wasm_bindgen::JsCast;
                let _ = heading.unchecked_into::<web_sys::HtmlElement>().focus();
            }
        }>"Skip to the window"</a>
        <Bar/>
        <Dock/>
        <main class="stage" id="window">
            {move || {
                let (window, workspace) = open.get();
                match (window, workspace) {
                    (Window::Workspaces, _) => view! { <window::workspaces::Workspaces/> }.into_any(),
                    (Window::Access, _) => view! { <window::access::Access/> }.into_any(),
                    (Window::Accounts, _) => view! { <window::accounts::Accounts/> }.into_any(),
                    (_, None) => view! { <NoWorkspace/> }.into_any(),
                    (Window::Home, Some(workspace)) => view! { <window::home::Home workspace=workspace/> }.into_any(),
                    (Window::Apps, Some(workspace)) => view! { <window::apps::Apps workspace=workspace/> }.into_any(),
                    (Window::Store, Some(_)) => view! { <window::store::Store/> }.into_any(),
                    (Window::Install(template), Some(workspace)) => {
                        view! { <window::install::Install workspace=workspace template=template/> }.into_any()
                    }
                    (Window::Usage, Some(workspace)) => view! { <window::usage::Usage workspace=workspace/> }.into_any(),
                }
            }}
        </main>
    }
}

/// The windows show something of a workspace, and there is none.
#[component]
fn NoWorkspace() -> impl IntoView {
    let desktop = Desktop::get();
    move || match desktop.workspaces.get() {
        Load::Waiting => view! { <div class="home"><Waiting what="your workspaces"/></div> }.into_any(),
        Load::Failed(problem) => {
            let retry = Callback::new(move |()| desktop.workspaces_changed.update(|count| *count += 1));
            view! { <div class="home"><Failure problem=problem retry=retry/></div> }.into_any()
        }
        Load::Ready(_) => view! { <window::workspaces::Workspaces/> }.into_any(),
    }
}

#[component]
fn Bar() -> impl IntoView {
    let desktop = Desktop::get();
    let to_home = Signal::derive(move || desktop.place_of(Window::Home));
    view! {
        <header class="bar">
            <Link to=to_home class="brand"><Logo/><span>"Atoll"</span></Link>
            <Switcher/>
            <Status/>
            <Account/>
        </header>
    }
}

/// Chooses the workspace that the windows show.
#[component]
fn Switcher() -> impl IntoView {
    let desktop = Desktop::get();
    let choose = move |name: String| {
        let window = match desktop.place.get_untracked().window {
            window if window.needs_workspace() => window,
            _ => Window::Home,
        };
        desktop.go(Place::new(Some(name), window));
    };
    move || match desktop.workspaces.get() {
        Load::Ready(all) if !all.is_empty() => {
            let current = desktop.workspace().unwrap_or_default();
            let is_mine = all.iter().any(|workspace| workspace.name == current);
            view! {
                <div class="switcher">
                    <label class="unseen" for="workspace">"Workspace"</label>
                    <select id="workspace" on:change:target=move |event| choose(event.target().value())>
                        {(!is_mine).then(|| view! { <option selected=true>{current.clone()}</option> })}
                        {all.into_iter().map(|workspace| {
                            let label = match workspace.display_name.as_str() {
                                "" => workspace.name.clone(),
                                title => format!("{title} ({})", workspace.name),
                            };
                            let selected = workspace.name == current;
                            view! { <option value=workspace.name selected=selected>{label}</option> }
                        }).collect_view()}
                    </select>
                </div>
            }
            .into_any()
        }
        _ => view! { <div class="switcher"></div> }.into_any(),
    }
}

/// Whether what is shown is as new as can be.
#[component]
fn Status() -> impl IntoView {
    let desktop = Desktop::get();
    let class = move || match desktop.link.get() {
        Line::Connecting => "link connecting",
        Line::Live => "link live",
        Line::Lost(_) => "link lost",
    };
    let words = move || match desktop.link.get() {
        Line::Connecting => "connecting".to_owned(),
        Line::Live => "live".to_owned(),
        Line::Lost(seconds) => format!("no connection; again in {seconds} s"),
    };
    view! { <p class=class role="status"><span class="dot" aria-hidden="true"></span><span class="words">{words}</span></p> }
}

#[component]
fn Account() -> impl IntoView {
    let desktop = Desktop::get();
    let problem = RwSignal::new(None::<Problem>);
    let name = move || {
        desktop.account().map(|session| {
            if session.display_name.is_empty() { session.account } else { session.display_name }
        })
    };
    let log_out = move |_| {
        spawn_local(async move {
            match client::act(Method::POST, "/api/v1/logout").await {
                Ok(_) => desktop.left(),
                Err(error) if error.status == 401 => desktop.left(),
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    view! {
        <div class="account">
            <span class="account-name">{name}</span>
            <button class="quiet" id="log-out" on:click=log_out>
                <Icon name="out"/>
                <span>"Log out"</span>
            </button>
            {move || problem.get().map(|problem| view! { <div class="toast"><Failure problem=problem/></div> })}
        </div>
    }
}

#[component]
fn Dock() -> impl IntoView {
    let desktop = Desktop::get();
    let entry = move |window: Window, icon: &'static str, label: &'static str| {
        let to = Signal::derive(move || desktop.place_of(window.clone()));
        view! { <li><Link to=to><Icon name=icon/><span>{label}</span></Link></li> }
    };
    let operates = Memo::new(move |_| desktop.account().is_some_and(|session| session.operator));
    view! {
        <nav class="dock" aria-label="Windows">
            <ul>
                {entry(Window::Home, "home", "Home")}
                {entry(Window::Apps, "apps", "Apps")}
                {entry(Window::Store, "store", "Store")}
                {entry(Window::Usage, "usage", "Usage")}
                {entry(Window::Workspaces, "workspaces", "Workspaces")}
                {entry(Window::Access, "access", "Access")}
                {move || operates.get().then(|| entry(Window::Accounts, "accounts", "Accounts"))}
            </ul>
        </nav>
    }
}
