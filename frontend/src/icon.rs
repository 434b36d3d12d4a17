//! Icons, drawn in the page: nothing is fetched for them.

use leptos::prelude::*;

/// An icon of the desktop's own set. It says nothing to a screen reader: words
/// stand beside it.
#[component]
pub fn Icon(name: &'static str) -> impl IntoView {
    let path = match name {
        "home" => "M4 11.5 12 4.5l8 7M6.5 10v9h11v-9M10 19v-5h4v5",
        "apps" => "M4.5 4.5h6v6h-6zM13.5 4.5h6v6h-6zM4.5 13.5h6v6h-6zM13.5 13.5h6v6h-6z",
        "store" => {
            "M4.5 9.5 6 4.5h12l1.5 5a2.5 2.5 0 0 1-5 0 2.5 2.5 0 0 1-5 0 2.5 2.5 0 0 1-5 0ZM6 12v7.5h12V12M10 19.5v-4h4v4"
        }
        "usage" => "M4.5 19.5h15M7 16.5v-4M12 16.5v-11M17 16.5v-7",
        "workspaces" => "M12 4 20 8l-8 4-8-4ZM4 12l8 4 8-4M4 16l8 4 8-4",
        "access" => "M8 15.5a3.5 3.5 0 1 1 3.2-4.9H20v3h-2v2.4h-3v-2.4h-3.8A3.5 3.5 0 0 1 8 15.5Z",
        "accounts" => {
            "M9 11.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5ZM3.5 19c.6-3 2.8-4.5 5.5-4.5s4.9 1.5 5.5 4.5M15.5 5.4a3.25 3.25 0 0 1 0 5.7M17 14.8c1.9.6 3.1 2 3.5 4.2"
        }
        "open" => "M13 5h6v6M19 5l-8 8M17 14v5H5V7h5",
        "close" => "M6 6l12 12M18 6 6 18",
        "add" => "M12 5v14M5 12h14",
        "out" => "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
        "remove" => "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
        "copy" => "M9 9h10.5v10.5H9zM15 9V4.5H4.5V15H9",
        "alert" => "M12 4 21 19.5H3ZM12 10v4.5M12 17v.3",
        _ => "M5 12.5 10 17.5 19 7",
    };
    view! {
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <path d=path></path>
        </svg>
    }
}
