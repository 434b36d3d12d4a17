//! The account's workspaces, and making one.

use api::http::{NewWorkspace, Problem, WorkspaceView};
use api::names::check_workspace_name;
use frontend::place::{Place, Window};
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::Desktop;
use crate::icon::Icon;
use crate::parts::{Empty, Failure, Field, Frame, Link, loaded, sentence};

#[component]
pub fn Workspaces() -> impl IntoView {
    let desktop = Desktop::get();
    view! {
        <Frame title="Workspaces" icon="workspaces">
            {loaded(desktop.workspaces, "your workspaces", desktop.workspaces_changed, move |all| {
                if all.is_empty() {
                    return view! {
                        <Empty icon="workspaces" title="No workspace yet">
                            <p>"A workspace is where your apps run, apart from everybody else's. Make your first one."</p>
                        </Empty>
                    }.into_any();
                }
                view! {
                    <ul class="rows">
                        {all.into_iter().map(|workspace| view! { <li><Row workspace=workspace/></li> }).collect_view()}
                    </ul>
                }.into_any()
            })}
            <NewForm/>
        </Frame>
    }
}

#[component]
fn Row(workspace: WorkspaceView) -> impl IntoView {
    let to = Place::new(Some(workspace.name.clone()), Window::Home);
    let title = if workspace.display_name.is_empty() {
        workspace.name.clone()
    } else {
        workspace.display_name.clone()
    };
    let (class, words) = match (workspace.ready, workspace.message.as_str()) {
        (true, _) => ("state good", "ready".to_owned()),
        (false, "") => ("state starting", "being made".to_owned()),
        (false, message) => ("state starting", message.to_owned()),
    };
    let label = title.clone();
    view! {
        <article class="row" aria-label=label>
            <Icon name="workspaces"/>
            <div class="row-main">
                <h2>{title}</h2>
                <p class="faint">
                    {format!("{} · owner {} · you are {}", workspace.name, workspace.owner, workspace.role.name())}
                </p>
                {workspace.namespace.map(|namespace| view! {
                    <p class="faint">"namespace " <code>{namespace}</code></p>
                })}
            </div>
            <p class=class><span class="dot" aria-hidden="true"></span>{words}</p>
            <Link to=Signal::stored(to) class="button">"Open"</Link>
        </article>
    }
}

#[component]
fn NewForm() -> impl IntoView {
    let desktop = Desktop::get();
    let name = RwSignal::new(String::new());
    let title = RwSignal::new(String::new());
    let name_error = RwSignal::new(None::<String>);
    let title_error = RwSignal::new(None::<String>);
    let problem = RwSignal::new(None::<Problem>);
    let making = RwSignal::new(false);
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if making.get_untracked() {
            return;
        }
        problem.set(None);
        title_error.set(None);
        let new = NewWorkspace {
            name: name.get_untracked().trim().to_owned(),
            display_name: title.get_untracked().trim().to_owned(),
        };
        let wrong = check_workspace_name(&new.name).err().map(sentence);
        name_error.set(wrong.clone());
        if wrong.is_some() {
            return;
        }
        making.set(true);
        spawn_local(async move {
            let answer = client::post::<WorkspaceView>("/api/v1/workspaces", &new).await;
            let _ = making.try_set(false);
            match answer {
                Ok(made) => {
                    desktop.workspaces_changed.update(|count| *count += 1);
                    name.try_set(String::new());
                    title.try_set(String::new());
                    desktop.go(Place::new(Some(made.name), Window::Home));
                }
                Err(error) => {
                    desktop.noticed(&error);
                    match error.field.as_deref() {
                        Some("name") => name_error.try_set(Some(sentence(&error.detail))),
                        Some("displayName") => title_error.try_set(Some(sentence(&error.detail))),
                        _ => problem.try_set(Some(error)).map(|_| None),
                    };
                }
            }
        });
    };
    view! {
        <form class="form boxed" on:submit=submit novalidate>
            <h2>"Make a workspace"</h2>
            <Field
                id="workspace-name" label="Name" required=true error=name_error
                help="Small letters, digits and hyphens. It can't be changed."
            >
                <input
                    id="workspace-name" autocomplete="off" autocapitalize="none" spellcheck="false"
                    aria-describedby="workspace-name-help workspace-name-error" bind:value=name
                />
            </Field>
            <Field id="workspace-title" label="Title" error=title_error help="What people call it.">
                <input
                    id="workspace-title" autocomplete="off"
                    aria-describedby="workspace-title-help workspace-title-error" bind:value=title
                />
            </Field>
            {move || problem.get().map(|problem| view! { <Failure problem=problem/> })}
            <div class="buttons">
                <button class="primary" type="submit" aria-disabled=move || making.get().to_string()>
                    {move || if making.get() { "Making it…" } else { "Make the workspace" }}
                </button>
            </div>
        </form>
    }
}
