//! The CNI plugin that the container runtime calls for every pod.

use std::io::{Read, Write};
use std::process::ExitCode;

use network::cni::{Environment, run};

fn main() -> ExitCode {
    let mut input = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut input) {
        eprintln!("atoll-cni: reading the network configuration: {error}");
        return ExitCode::FAILURE;
    }
    let (answer, well) = run(&Environment::of_process(), &input);
    if !answer.is_null() && writeln!(std::io::stdout(), "{answer}").is_err() {
        return ExitCode::FAILURE;
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
