//! App templates: reads them, says what they ask for, and evaluates them to the
//! Kubernetes objects of an app. A template is untrusted, and so are the values
//! given for it: evaluation is a pure function within [`limits`], and a value
//! can never become anything but the string, number or boolean it is.
//!
//! It must not know the cluster, files, sockets, the clock or a source of
//! randomness: what it needs of them is passed in; only `install` (feature `kube`)
//! puts what came out into a cluster. Start at [`Template`], whose
//! `parse` and `evaluate` are the whole way; `slot` tells why no value can
//! break out of its place, and [`check_supported`] what Atoll offers.

#![forbid(unsafe_code)]

mod app;
mod claim;
mod conditional;
mod error;
mod evaluate;
mod expression;
mod input;
#[cfg(feature = "kube")]
pub mod install;
pub mod limits;
mod scalar;
mod slot;
mod substitute;
mod support;
mod template;
mod yaml;

pub use app::{App, Context, Link, Random, Values};
pub use claim::{claim, references};
pub use error::Error;
pub use input::{Input, InputKind};
pub use support::check_supported;
pub use template::{About, Template};
