//! Running programs of the machine, with their complaint in the error.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// Shows a command as a person would type it.
pub fn display(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end and returns its standard output; its standard
/// error becomes the reason when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command { command: display(command), reason: reason(&output) })
}

/// Runs a command to its end, whatever it answers.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Command { command: display(command), reason: error.to_string() })
}

/// `run` for a program and its words.
pub fn call<S: AsRef<OsStr>>(program: &str, words: impl IntoIterator<Item = S>) -> Result<String> {
    run(Command::new(program).args(words))
}

/// The last lines a program wrote before it failed.
fn reason(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => output.status.to_string(),
        n => lines[n.saturating_sub(4)..].join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_says_why() {
        let error =
            call("sh", ["-c", "echo first >&2; echo the reason >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("the reason"), "{error}");
        let error = call("sh", ["-c", "exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
