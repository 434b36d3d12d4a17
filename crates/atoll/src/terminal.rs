//! Progress on a terminal, or as plain lines where there is none.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use installer::progress::Progress;

/// A plain line is written at least this often.
const SILENCE: Duration = Duration::from_secs(10);

struct State {
    step: String,
    detail: String,
    started: Instant,
    step_started: Instant,
    last_line: Instant,
}

/// Shows each step with what it is at, and how long it took.
pub struct Terminal {
    state: Arc<Mutex<State>>,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// Begins to show progress on standard error.
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State {
            step: String::new(),
            detail: String::new(),
            started: now,
            step_started: now,
            last_line: now,
        };
        let state = Arc::new(Mutex::new(state));
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            // Ends with the process; it only ever writes.
            let shared = Arc::clone(&state);
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if !state.step.is_empty() && state.last_line.elapsed() >= SILENCE {
                        state.last_line = Instant::now();
                        eprintln!("{}", line(&state));
                    }
                }
            });
        }
        Self { state, bar }
    }

    fn finish_step(&self, state: &State) {
        if let Some(bar) = &self.bar
            && !state.step.is_empty()
        {
            bar.println(format!("  {} ({:.1} s)", state.step, state.step_started.elapsed().as_secs_f64()));
        }
    }

    /// Ends the last step.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish_step(&state);
        state.step.clear();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(state: &State) -> String {
    let seconds = state.started.elapsed().as_secs();
    if state.detail.is_empty() {
        format!("[{seconds:>4} s] {}", state.step)
    } else {
        format!("[{seconds:>4} s] {}: {}", state.step, state.detail)
    }
}

impl Progress for Terminal {
    fn step(&self, what: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish_step(&state);
        state.step = what.into();
        state.detail.clear();
        state.step_started = Instant::now();
        state.last_line = Instant::now();
        match &self.bar {
            Some(bar) => bar.set_message(what.to_string()),
            None => eprintln!("{}", line(&state)),
        }
    }

    fn update(&self, detail: &str, done: Option<u64>, total: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.detail = match (done, total) {
            (Some(done), Some(total)) => format!("{done} of {total}, {detail}"),
            _ => detail.into(),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {}", state.step, state.detail));
        }
    }
}
