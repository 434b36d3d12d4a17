//! The desktop in a real Chromium, over https with a certificate that the
//! browser trusts, served by the server over a cloud in memory.

// Tests end by panicking.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod https;
mod journey;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The desktop's files: built once for all tests, and only if they changed.
fn desktop() -> &'static Path {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    FILES.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let output = workspace.join("target/desktop");
        let cache = desktop_build::default_cache().unwrap();
        let progress = |step: &str| println!("{step}");
        desktop_build::build(&desktop_build::Options { workspace, output, cache, progress }).unwrap()
    })
}
