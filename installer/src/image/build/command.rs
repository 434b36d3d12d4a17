//! Running a program whose output becomes progress.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::image::error::Context as _;
use crate::image::{Error, Result};
use crate::progress::Progress;

/// How often something is said while the program says nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where a program is: what it does now, and how many of how many.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub detail: String,
    pub done: Option<u64>,
    pub total: Option<u64>,
}

/// Runs a program to its end, keeps its output in `log`, and returns what it
/// wrote to its standard output. `line` sees every line and changes the state
/// that is shown.
pub(crate) fn run(
    command: &mut Command,
    what: &str,
    log: &Path,
    progress: &dyn Progress,
    mut line: impl FnMut(&str, &mut State),
) -> Result<String> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).on("making", dir)?;
    }
    let mut kept = File::create(log).on("writing", log)?;
    let failed = |last: String| Error::Failed { what: what.to_owned(), last, log: log.to_owned() };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("{}: {e}", command.get_program().to_string_lossy())))?;
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        read(out, true, sender.clone());
    }
    if let Some(err) = child.stderr.take() {
        read(err, false, sender.clone());
    }
    drop(sender);

    let began = Instant::now();
    let mut state = State { detail: what.to_owned(), ..State::default() };
    let mut last = String::new();
    let mut out = String::new();
    loop {
        match lines.recv_timeout(HEARTBEAT) {
            Ok((is_out, text)) => {
                let _ = writeln!(kept, "{text}");
                line(&text, &mut state);
                progress.update(&state.detail, state.done, state.total);
                if is_out {
                    out.push_str(&text);
                    out.push('\n');
                }
                // What went wrong is said on the standard error.
                if !text.trim().is_empty() && (!is_out || last.is_empty()) {
                    last = text;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let detail = format!("{} ({} s)", state.detail, began.elapsed().as_secs());
                progress.update(&detail, state.done, state.total);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        return Err(failed(if last.is_empty() { status.to_string() } else { last.trim().to_owned() }));
    }
    Ok(out)
}

/// Runs a program that is done in a moment.
pub(crate) fn ask(command: &mut Command, what: &str, log: &Path) -> Result<String> {
    run(command, what, log, &crate::progress::Quiet, |_, _| {})
}

fn read(from: impl Read + Send + 'static, is_out: bool, to: mpsc::Sender<(bool, String)>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if to.send((is_out, text)).is_err() {
                break;
            }
            bytes.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_a_failure_names_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs/x.log");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            ask(&mut command, "the test", &log)
        };
        assert_eq!(shell("echo a; echo b >&2; echo c").unwrap(), "a\nc\n");
        let error = shell("echo fine; echo 'no such thing' >&2; exit 3").unwrap_err().to_string();
        assert!(error.starts_with("the test failed: no such thing"), "{error}");
        assert!(std::fs::read_to_string(&log).unwrap().contains("fine"));
    }
}
