//! What all parts of the page share: who is logged in, where they are, and what
//! has changed.

use api::http::{Problem, Session, WorkspaceView};
use frontend::place::{Place, Window};
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsValue;

use crate::client;
use crate::load::{Load, load};

/// Who uses the page.
#[derive(Clone, Debug, PartialEq)]
pub enum User {
    /// The server is being asked.
    Asking,
    /// The server can't be asked.
    Unknown(Problem),
    /// Nobody; whether a session has ended.
    Nobody { ended: bool },
    /// Somebody.
    Somebody(Session),
}

/// Whether changes are heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Connecting,
    Live,
    /// Lost; the next attempt is in so many seconds.
    Lost(u32),
}

/// Shared by all parts; copies are the same one.
#[derive(Clone, Copy)]
pub struct Desktop {
    pub user: RwSignal<User>,
    pub place: RwSignal<Place>,
    pub link: RwSignal<Link>,
    pub workspaces: RwSignal<Load<Vec<WorkspaceView>>>,
    /// Count up when the server says that there is something new.
    pub workspaces_changed: RwSignal<u32>,
    pub apps_changed: RwSignal<u32>,
    pub usage_changed: RwSignal<u32>,
    /// The workspace that was last chosen, for places that name none.
    chosen: RwSignal<Option<String>>,
}

impl Desktop {
    /// Makes it, asks who is logged in and follows the browser's history.
    pub fn provide() -> Self {
        let path = || window().location().pathname().unwrap_or_default();
        let user = RwSignal::new(User::Asking);
        let workspaces_changed = RwSignal::new(0);
        let workspaces = load(move || {
            workspaces_changed.track();
            matches!(*user.read(), User::Somebody(_)).then(|| "/api/v1/workspaces".to_owned())
        });
        let desktop = Self {
            user,
            place: RwSignal::new(Place::from_path(&path())),
            link: RwSignal::new(Link::Connecting),
            workspaces,
            workspaces_changed,
            apps_changed: RwSignal::new(0),
            usage_changed: RwSignal::new(0),
            chosen: RwSignal::new(None),
        };
        provide_context(desktop);
        Effect::new(move || {
            if let Some(workspace) = desktop.place.read().workspace.clone() {
                desktop.chosen.set(Some(workspace));
            }
        });
        Effect::new(move || {
            let place = desktop.place.get();
            let at = desktop.workspace().filter(|_| place.window.needs_workspace());
            let at = at.map(|workspace| format!(" – {workspace}")).unwrap_or_default();
            document().set_title(&format!("{}{at} – Atoll", place.window.title()));
        });
        let _ = window_event_listener(leptos::ev::popstate, move |_| {
            desktop.place.set(Place::from_path(&path()));
        });
        desktop.ask();
        desktop
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Asks the server who is logged in.
    pub fn ask(self) {
        spawn_local(async move {
            match client::get::<Session>("/api/v1/me").await {
                Ok(session) => self.user.set(User::Somebody(session)),
                Err(problem) if problem.status == 401 => {
                    let ended = matches!(self.user.get_untracked(), User::Somebody(_));
                    self.user.set(User::Nobody { ended });
                }
                // Who works goes on working: the link says what is wrong.
                Err(_) if self.is_logged_in_untracked() => {}
                Err(problem) => self.user.set(User::Unknown(problem)),
            }
        });
    }

    /// To be called with every problem: one of them is that the session ended.
    /// The place stays, so that a login leads back to it.
    pub fn noticed(self, problem: &Problem) {
        if problem.status == 401 && self.is_logged_in_untracked() {
            self.user.set(User::Nobody { ended: true });
        }
    }

    /// Somebody has logged out: who comes next begins at the beginning.
    pub fn left(self) {
        self.user.set(User::Nobody { ended: false });
        self.chosen.set(None);
        self.go(Place::default());
    }

    pub fn is_logged_in(self) -> bool {
        matches!(*self.user.read(), User::Somebody(_))
    }

    fn is_logged_in_untracked(self) -> bool {
        matches!(*self.user.read_untracked(), User::Somebody(_))
    }

    pub fn account(self) -> Option<Session> {
        match self.user.get() {
            User::Somebody(session) => Some(session),
            _ => None,
        }
    }

    /// The workspace that is looked at: the place's, else the last one, else the
    /// first.
    pub fn workspace(self) -> Option<String> {
        let named = self.place.read().workspace.clone();
        let is_mine = |name: &String| match &*self.workspaces.read() {
            Load::Ready(all) => all.iter().any(|workspace| workspace.name == *name),
            _ => true,
        };
        named.or_else(|| self.chosen.get().filter(is_mine)).or_else(|| match &*self.workspaces.read() {
            Load::Ready(all) => all.first().map(|workspace| workspace.name.clone()),
            _ => None,
        })
    }

    /// That workspace, as the server tells it.
    pub fn workspace_view(self) -> Option<WorkspaceView> {
        let name = self.workspace()?;
        match &*self.workspaces.read() {
            Load::Ready(all) => all.iter().find(|workspace| workspace.name == name).cloned(),
            _ => None,
        }
    }

    /// The place of a window, in the workspace that is looked at.
    pub fn place_of(self, window: Window) -> Place {
        let workspace = self.workspace().filter(|_| window.needs_workspace());
        Place::new(workspace, window)
    }

    /// Goes there, as a step in the browser's history.
    pub fn go(self, place: Place) {
        if let Ok(history) = window().history() {
            let _ = history.push_state_with_url(&JsValue::NULL, "", Some(&place.path()));
        }
        self.place.set(place);
    }

    /// All may have changed.
    pub fn everything_changed(self) {
        for changed in [self.workspaces_changed, self.apps_changed, self.usage_changed] {
            changed.update(|count| *count += 1);
        }
    }
}
