//! The windows, one file for each.

pub mod access;
pub mod accounts;
pub mod apps;
pub mod home;
pub mod install;
pub mod store;
pub mod usage;
pub mod workspaces;

use frontend::period::{self, Period};

/// Now, in seconds since 1970.
fn now() -> u64 {
    (js_sys::Date::now() / 1000.0) as u64
}

/// The path of a workspace's usage or bill in a time.
fn money_path(workspace: &str, what: &str, Period { from, to }: Period) -> String {
    format!("/api/v1/workspaces/{workspace}/{what}?from={from}&to={to}")
}

/// This month so far, or one before it.
fn month(back: u32) -> Period {
    period::month(now(), back)
}
