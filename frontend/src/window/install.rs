//! A template's form: a field for each input.

use std::collections::BTreeMap;

use api::Role;
use api::http::{AppView, InputView, NewApp, Problem, TemplateView};
use frontend::form::{self, Control};
use frontend::place::Window;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::client;
use crate::desktop::Desktop;
use crate::load::{Load, load};
use crate::parts::{Empty, Failure, Field, Frame, Link, loaded, sentence};

#[component]
pub fn Install(workspace: String, template: String) -> impl IntoView {
    let desktop = Desktop::get();
    let again = RwSignal::new(0);
    let templates = load::<Vec<TemplateView>>(move || {
        again.track();
        Some("/api/v1/templates".to_owned())
    });
    let named = template.clone();
    let title = Signal::derive(move || match &*templates.read() {
        Load::Ready(all) => {
            all.iter().find(|one| one.name == named).map_or(named.clone(), |one| one.title.clone())
        }
        _ => named.clone(),
    });
    let to_store = Signal::derive(move || desktop.place_of(Window::Store));
    view! {
        <Frame title=title icon="store" back=Window::Store>
            {loaded(templates, "the app's form", again, move |templates| {
                match templates.into_iter().find(|one| one.name == template) {
                    Some(template) => view! { <Form workspace=workspace.clone() template=template/> }.into_any(),
                    None => view! {
                        <Empty icon="store" title="The store has no such app">
                            <p>"The template of this address isn't there. It may have been taken out."</p>
                            <Link to=to_store class="button primary">"See what there is"</Link>
                        </Empty>
                    }.into_any(),
                }
            })}
        </Frame>
    }
}

/// An input with what was typed and what is wrong with it.
#[derive(Clone)]
struct Entry {
    input: InputView,
    value: RwSignal<String>,
    error: RwSignal<Option<String>>,
}

impl Entry {
    fn id(&self) -> String {
        format!("input-{}", self.input.name)
    }

    /// Says what is wrong at the field, or returns what is sent.
    fn check(&self) -> Result<Option<String>, ()> {
        let checked = form::check(&self.input, &self.value.read_untracked());
        self.error.set(checked.as_ref().err().cloned());
        checked.map_err(drop)
    }
}

#[component]
fn Form(workspace: String, template: TemplateView) -> impl IntoView {
    let desktop = Desktop::get();
    let problem = RwSignal::new(None::<Problem>);
    let installing = RwSignal::new(false);
    let entries: Vec<Entry> = template
        .inputs
        .iter()
        .map(|input| Entry {
            input: input.clone(),
            value: RwSignal::new(form::initial(input)),
            error: RwSignal::new(None),
        })
        .collect();
    let may_install = move || desktop.workspace_view().is_none_or(|view| view.role >= Role::Developer);
    let (name, into) = (template.name.clone(), workspace.clone());
    let fields = entries.clone();
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if installing.get_untracked() {
            return;
        }
        problem.set(None);
        let mut inputs = BTreeMap::new();
        let mut wrong = None;
        for entry in &fields {
            match entry.check() {
                Ok(Some(value)) => {
                    inputs.insert(entry.input.name.clone(), value);
                }
                Ok(None) => {}
                Err(()) => wrong = wrong.or(Some(entry.id())),
            }
        }
        if let Some(id) = wrong {
            return focus(&id);
        }
        installing.set(true);
        let path = format!("/api/v1/workspaces/{into}/apps");
        let new = NewApp { template: name.clone(), inputs };
        let fields = fields.clone();
        spawn_local(async move {
            let answer = client::post::<AppView>(&path, &new).await;
            let _ = installing.try_set(false);
            match answer {
                Ok(_) => {
                    desktop.apps_changed.update(|count| *count += 1);
                    desktop.go(desktop.place_of(Window::Apps));
                }
                Err(error) => {
                    desktop.noticed(&error);
                    let field = error.field.as_deref().and_then(|field| field.strip_prefix("inputs."));
                    match fields.iter().find(|entry| Some(entry.input.name.as_str()) == field) {
                        Some(entry) => {
                            entry.error.try_set(Some(sentence(&error.detail)));
                            focus(&entry.id());
                        }
                        None => {
                            problem.try_set(Some(error));
                        }
                    }
                }
            }
        });
    };
    view! {
        <form class="form" on:submit=submit novalidate>
            <p class="lead">{template.description}</p>
            {entries.into_iter().map(|entry| view! { <Input entry=entry/> }).collect_view()}
            {move || problem.get().map(|problem| view! { <Failure problem=problem/> })}
            {move || (!may_install()).then(|| view! {
                <p class="note">"You may look at this workspace only. Its owner can make you a developer."</p>
            })}
            <div class="buttons">
                <button class="primary" type="submit" aria-disabled=move || installing.get().to_string()>
                    {move || if installing.get() {
                        "Installing…".to_owned()
                    } else {
                        format!("Install into {workspace}")
                    }}
                </button>
            </div>
        </form>
    }
}

fn focus(id: &str) {
    use wasm_bindgen::JsCast;
    if let Some(element) = document().get_element_by_id(id) {
        let _ = element.unchecked_into::<web_sys::HtmlElement>().focus();
    }
}

#[component]
fn Input(entry: Entry) -> impl IntoView {
    let (id, value, error) = (entry.id(), entry.value, entry.error);
    let input = entry.input.clone();
    let control = form::control(&input);
    let described = format!("{id}-help {id}-error");
    let invalid = move || error.read().is_some().then_some("true");
    // What was wrong is looked at again when the field is left or corrected.
    let leave = {
        let entry = entry.clone();
        move |_| {
            if entry.error.read_untracked().is_some() || !entry.value.read_untracked().is_empty() {
                let _ = entry.check();
            }
        }
    };
    let hint = input.default.clone().filter(|default| !default.is_empty());
    let label = form::label(&input.name);
    let required = input.required && hint.is_none();
    let inner = match control {
        Control::Switch => {
            let set = move |ticked: bool| value.set(ticked.to_string());
            view! {
                <input
                    id=id.clone() type="checkbox" class="switch" aria-describedby=described
                    prop:checked=move || *value.read() == "true"
                    on:change:target=move |event| set(event.target().checked())
                />
            }
            .into_any()
        }
        Control::Choice => {
            let none = if required { "Choose…" } else { "As the app decides" };
            let unset = hint.as_ref().is_none_or(|default| !input.options.contains(default));
            view! {
                <select
                    id=id.clone() aria-describedby=described aria-invalid=invalid aria-required=required.to_string()
                    on:change:target=move |event| value.set(event.target().value()) on:blur=leave
                >
                    {unset.then(|| view! { <option value="">{none}</option> })}
                    {input.options.clone().into_iter().map(|option| {
                        let selected = *value.read_untracked() == option;
                        view! { <option value=option.clone() selected=selected>{option.clone()}</option> }
                    }).collect_view()}
                </select>
            }
            .into_any()
        }
        Control::Text | Control::Secret | Control::Number | Control::Whole => {
            let kind = if control == Control::Secret { "password" } else { "text" };
            let keys = match control {
                Control::Number => "decimal",
                Control::Whole => "numeric",
                _ => "text",
            };
            view! {
                <input
                    id=id.clone() type=kind inputmode=keys autocomplete="off" spellcheck="false"
                    placeholder=hint.map(|default| format!("{default} (if left empty)"))
                    aria-describedby=described aria-invalid=invalid aria-required=required.to_string()
                    bind:value=value on:blur=leave
                />
            }
            .into_any()
        }
    };
    view! {
        <Field id=id label=label help=input.description required=required error=error>{inner}</Field>
    }
}
