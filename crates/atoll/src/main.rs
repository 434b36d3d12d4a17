//! `atoll`, the command people type: it brings clusters up and down, makes and
//! carries cluster images, makes accounts and workspaces, and installs apps.
//!
//! It parses words and prints answers; the work is done by `installer`,
//! `catalog` and the cluster. Start at [`arguments`].

mod account;
mod app;
mod arguments;
mod cluster;
mod doctor;
mod hierarchy;
mod image;
mod internal;
mod invite;
mod login;
mod member;
mod packages;
mod peering;
mod plan;
mod quota;
mod server;
mod terminal;
mod trust;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ATOLL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=off,tower=off")),
        )
        .with_writer(std::io::stderr)
        .init();
    // Two libraries may each bring one, so one is chosen.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atoll: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line; a cause that the line already says is
/// left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { common, command } = arguments;
    match command {
        Command::Up(up) => cluster::up(&common, &up),
        Command::Down => cluster::down(&common),
        Command::Status { output } => cluster::status(&common, output),
        Command::Kubeconfig { admin: true, .. } => cluster::kubeconfig(&common),
        Command::Kubeconfig { account, .. } => login::kubeconfig(&common, account.as_deref()),
        Command::Login { account, password_stdin } => login::login(&common, &account, password_stdin),
        Command::Logout { account } => login::logout(&common, account.as_deref()),
        Command::Account { command } => account::run(&common, command),
        Command::Workspace { command } => workspace::run(&common, command),
        Command::Member { command } => member::run(&common, command),
        Command::Invite { command } => invite::run(&common, command),
        Command::Peering { command } => peering::run(&common, command),
        Command::Plan { command } => plan::run(&common, command),
        Command::Quota { command } => quota::run(&common, command),
        Command::Usage { of } => workspace::usage(&common, &of.workspace, of.account.as_deref(), of.output),
        Command::Bill { of } => workspace::bill(&common, &of.workspace, of.account.as_deref(), of.output),
        Command::Doctor { output } => doctor::doctor(&common, output),
        Command::Trust { remove } => trust::trust(&common, remove),
        Command::Image { command } => image::run(&common, command),
        Command::App { command } => app::run(&common, command),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "atoll", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Internal { command } => internal::run(&command),
    }
}

/// Runs the asynchronous part of a command.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}
