//! An object's namespace and name. The index mentions each in a dozen places, so
//! a copy is a pointer.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An object's namespace and name. Cluster-scoped objects have an empty namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<Names>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Names {
    /// One copy for all that is in it.
    #[serde(serialize_with = "text")]
    pub namespace: Arc<str>,
    pub name: String,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Id {
    pub fn new(namespace: impl AsRef<str>, name: impl Into<String>) -> Self {
        let mut name = name.into();
        name.shrink_to_fit();
        Self(Arc::new(Names { namespace: shared(namespace.as_ref()), name }))
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

/// The one copy of a namespace's name.
fn shared(namespace: &str) -> Arc<str> {
    #[derive(Default)]
    struct Known {
        all: HashSet<Arc<str>>,
        /// At this length those that nobody else holds any more are let go.
        full: usize,
    }
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.all.get(namespace) {
        return found.clone();
    }
    if known.all.len() >= known.full {
        known.all.retain(|name| Arc::strong_count(name) > 1);
        known.full = known.all.len() * 2 + 64;
    }
    let name: Arc<str> = namespace.into();
    known.all.insert(name.clone());
    name
}

impl Deref for Id {
    type Target = Names;

    fn deref(&self) -> &Names {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Names::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            namespace: String,
            name: String,
        }
        Read::deserialize(deserializer).map(|read| Self::new(read.namespace, read.name))
    }
}
