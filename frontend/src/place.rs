//! Places in the desktop and their addresses: what is open survives a reload, a
//! bookmark and a login.

/// Where somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The chosen workspace; some places need none.
    pub workspace: Option<String>,
    /// What is open.
    pub window: Window,
}

/// What can be open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Nothing: the desktop itself.
    #[default]
    Home,
    /// The workspace's apps.
    Apps,
    /// The store.
    Store,
    /// A template's form.
    Install(String),
    /// Usage and bill.
    Usage,
    /// The account's workspaces.
    Workspaces,
    /// How to reach Kubernetes.
    Access,
    /// The cloud's accounts, for operators.
    Accounts,
}

impl Window {
    /// What its title says.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Home => "Home",
            Self::Apps => "Apps",
            Self::Store => "Store",
            Self::Install(_) => "Install an app",
            Self::Usage => "Usage & bill",
            Self::Workspaces => "Workspaces",
            Self::Access => "Access",
            Self::Accounts => "Accounts",
        }
    }

    /// Whether it shows something of a workspace.
    pub fn needs_workspace(&self) -> bool {
        !matches!(self, Self::Workspaces | Self::Access | Self::Accounts)
    }
}

impl Place {
    /// A place in a workspace.
    pub fn new(workspace: Option<String>, window: Window) -> Self {
        Self { workspace, window }
    }

    /// The place that an address names. One that names none is the desktop.
    pub fn from_path(path: &str) -> Self {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let (workspace, rest) = match parts.as_slice() {
            ["w", workspace, rest @ ..] => (Some((*workspace).to_owned()), rest),
            rest => (None, rest),
        };
        let window = match rest {
            ["apps"] => Window::Apps,
            ["store"] => Window::Store,
            ["store", template] => Window::Install((*template).to_owned()),
            ["usage"] => Window::Usage,
            ["workspaces"] => Window::Workspaces,
            ["access"] => Window::Access,
            ["accounts"] => Window::Accounts,
            _ => Window::Home,
        };
        Self { workspace, window }
    }

    /// Its address.
    pub fn path(&self) -> String {
        let mut path = match &self.workspace {
            Some(workspace) => format!("/w/{}", encode(workspace)),
            None => String::new(),
        };
        match &self.window {
            Window::Home => {}
            Window::Apps => path += "/apps",
            Window::Store => path += "/store",
            Window::Install(template) => path += &format!("/store/{}", encode(template)),
            Window::Usage => path += "/usage",
            Window::Workspaces => path += "/workspaces",
            Window::Access => path += "/access",
            Window::Accounts => path += "/accounts",
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }
}

/// As one part of a path.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

fn decode(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = part.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_an_address_that_leads_back() {
        for workspace in [None, Some("shop".to_owned())] {
            for window in [
                Window::Home,
                Window::Apps,
                Window::Store,
                Window::Install("wiki/ä b.c%".to_owned()),
                Window::Usage,
                Window::Workspaces,
                Window::Access,
                Window::Accounts,
            ] {
                let place = Place::new(workspace.clone(), window);
                assert_eq!(Place::from_path(&place.path()), place, "{}", place.path());
            }
        }
        assert_eq!(Place::default().path(), "/");
        let form = Place::new(Some("shop".to_owned()), Window::Install("a.b".to_owned()));
        assert!(!form.path().contains('.'), "the server takes what has a dot for a file");
    }

    #[test]
    fn an_address_that_names_no_place_is_the_desktop() {
        for path in ["", "/", "/nonsense", "/w", "/store/a/b", "/%", "/%zz/%e4"] {
            assert_eq!(Place::from_path(path).window, Window::Home, "{path}");
        }
        assert_eq!(Place::from_path("/w/shop/nonsense").workspace.as_deref(), Some("shop"));
    }
}
