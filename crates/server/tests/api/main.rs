//! The API as its callers meet it, over a cloud in memory.

// Tests end by panicking.
#![allow(clippy::unwrap_used)]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod limits;
mod login;
mod rights;
mod stream;
mod workspaces;
