//! Builds an ACME server and the name server that it asks, and has the gateway get
//! certificates of it.
//!
//! Both are Go programs, pinned in `e2e/acme`; `go.sum` vouches for them.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

const MODULE: &str = "e2e/acme";
const PROGRAMS: [&str; 2] = [
    "github.com/letsencrypt/pebble/v2/cmd/pebble",
    "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv",
];

/// Where the test's programs are built.
const OUTPUT: &str = "target/acme";

pub fn build() -> anyhow::Result<Command> {
    std::fs::create_dir_all(OUTPUT)?;
    let output = Path::new(OUTPUT).canonicalize().context("finding the checkout")?;
    let mut command = Command::new("go");
    let cache = desktop_build::default_cache()?.join("go-build");
    command.current_dir(MODULE).args(["build", "-trimpath", "-o"]).arg(output).args(PROGRAMS);
    command.env("GOCACHE", cache).env("GOFLAGS", "-p=1 -mod=readonly").env("CGO_ENABLED", "0");
    Ok(command)
}

/// The test, which fails where the programs are not.
pub fn test() -> anyhow::Result<Command> {
    let mut command = crate::cargo(&["test", "--release", "--workspace", "--test", "pebble"]);
    command.env("ATOLL_PEBBLE", std::path::absolute(OUTPUT)?);
    Ok(command)
}
