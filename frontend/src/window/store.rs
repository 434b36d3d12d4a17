//! The store: what can be installed.

use api::http::TemplateView;
use frontend::place::Window;
use leptos::prelude::*;

use crate::desktop::Desktop;
use crate::load::load;
use crate::parts::{Empty, Frame, Link, Tile, loaded};

#[component]
pub fn Store() -> impl IntoView {
    let desktop = Desktop::get();
    let again = RwSignal::new(0);
    let sought = RwSignal::new(String::new());
    let templates = load::<Vec<TemplateView>>(move || {
        again.track();
        Some("/api/v1/templates".to_owned())
    });
    view! {
        <Frame title="Store" icon="store">
            {loaded(templates, "the store's list", again, move |templates| {
                if templates.is_empty() {
                    return view! {
                        <Empty icon="store" title="The store is empty">
                            <p>"An operator of this cloud puts templates into it."</p>
                        </Empty>
                    }.into_any();
                }
                let templates = StoredValue::new(templates);
                let found = move || {
                    let word = sought.read().trim().to_lowercase();
                    let fits = |template: &TemplateView| {
                        [&template.name, &template.title, &template.description]
                            .iter().any(|text| text.to_lowercase().contains(&word))
                    };
                    templates.read_value().iter().filter(|template| fits(template)).cloned().collect::<Vec<_>>()
                };
                view! {
                    <div class="search">
                        <label for="search" class="unseen">"Search the store"</label>
                        <input id="search" type="search" placeholder="Search the store" bind:value=sought/>
                    </div>
                    {move || {
                        let found = found();
                        if found.is_empty() {
                            return view! {
                                <Empty icon="store" title="Nothing fits">
                                    <p>"No app has this word in its name or description. Try another one."</p>
                                </Empty>
                            }.into_any();
                        }
                        view! {
                            <ul class="shelf">
                                {found.into_iter().map(|template| {
                                    let name = template.name.clone();
                                    let to = Signal::derive(move || {
                                        desktop.place_of(Window::Install(name.clone()))
                                    });
                                    view! {
                                        <li>
                                            <Link to=to class="product">
                                                <Tile name=template.title.clone()/>
                                                <span class="product-title">{template.title}</span>
                                                <span class="product-words">{template.description}</span>
                                            </Link>
                                        </li>
                                    }
                                }).collect_view()}
                            </ul>
                        }.into_any()
                    }}
                }.into_any()
            })}
        </Frame>
    }
}
