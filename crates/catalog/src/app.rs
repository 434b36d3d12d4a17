//! What a template becomes, and what it needs besides its inputs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Where an app is to run: the values of a template's built-in names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The workspace's namespace: `SEALOS_NAMESPACE`.
    pub namespace: String,
    /// The domain under which apps get their names: `SEALOS_CLOUD_DOMAIN`.
    pub domain: String,
    /// The port of that domain, empty for https' own: `SEALOS_CLOUD_PORT`.
    pub port: String,
    /// The Secret that an Ingress names for TLS: `SEALOS_CERT_SECRET_NAME`.
    pub certificate_secret: String,
    /// The ServiceAccount of the workspace's owner: `SEALOS_SERVICE_ACCOUNT`.
    pub service_account: String,
}

/// A source of randomness, such as the system's. Any closure that gives a
/// `u64` is one.
pub trait Random {
    /// A number of which every bit is as good as the others.
    fn next(&mut self) -> u64;
}

impl<F: FnMut() -> u64> Random for F {
    fn next(&mut self) -> u64 {
        self()
    }
}

/// An app, ready to be checked and applied.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// `defaults.app_name` where there is one, else the template's name.
    pub name: String,
    /// The namespace it was made for.
    pub namespace: String,
    /// The Kubernetes objects in the template's order, without the links.
    pub objects: Vec<Value>,
    /// What a desktop shows of it: the template's `App` objects.
    pub links: Vec<Link>,
    /// What the defaults and inputs came to.
    pub values: Values,
}

/// The evaluated names of a template. Inputs may hold passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Values {
    /// `defaults.*`
    pub defaults: BTreeMap<String, String>,
    /// `inputs.*`
    pub inputs: BTreeMap<String, String>,
}

/// An icon on a desktop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Link {
    /// What stands under the icon.
    pub name: String,
    /// The address of the icon's picture.
    pub icon: String,
    /// Where it leads.
    pub url: String,
    /// `link` opens a tab, `iframe` a window on the desktop.
    #[serde(rename = "type")]
    pub kind: String,
    /// Such as `normal` or `hidden`.
    pub display_type: String,
}

impl Link {
    /// The link of an `App` object; what it doesn't say is empty.
    pub(crate) fn from_object(object: &Value) -> Self {
        let text = |path: &str| {
            object.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Self {
            name: text("/spec/name").or_else(|| text("/metadata/name")).unwrap_or_default(),
            icon: text("/spec/icon").unwrap_or_default(),
            url: text("/spec/data/url").unwrap_or_default(),
            kind: text("/spec/type").unwrap_or_else(|| "link".to_owned()),
            display_type: text("/spec/displayType").unwrap_or_else(|| "normal".to_owned()),
        }
    }
}
