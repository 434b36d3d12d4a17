//! What atoll starts itself as: a node's keeper, a node's first process, and
//! the forwarder.

use std::process::ExitCode;

use installer::local::{forward, init, node};

use crate::arguments::Internal;

pub fn run(command: &Internal) -> anyhow::Result<ExitCode> {
    match command {
        Internal::KeepNode { directory } => node::keep(directory)?,
        Internal::Init { directory } => init::run(directory)?,
        Internal::Forward { directory } => {
            // One thread carries bytes, a second makes sockets.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(forward::run(directory))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
