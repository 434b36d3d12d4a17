//! How a long piece of work tells what it does and how far it is.

/// Told by whatever takes more than a few seconds. The command draws it, a test
/// ignores it.
pub trait Progress: Send + Sync {
    /// A new step begins, for example "building Kubernetes v1.34.10".
    fn step(&self, what: &str);

    /// The step goes on: what it is at, and how many of how many where that is
    /// known. Comes at least every ten seconds.
    fn update(&self, detail: &str, done: Option<u64>, total: Option<u64>);
}

/// Says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _what: &str) {}
    fn update(&self, _detail: &str, _done: Option<u64>, _total: Option<u64>) {}
}

/// Writes a line for each step, and one for its state at most every few seconds.
#[derive(Debug, Default)]
pub struct Lines {
    last: std::sync::Mutex<Option<std::time::Instant>>,
}

impl Lines {
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

    fn due(&self, always: bool) -> bool {
        let now = std::time::Instant::now();
        let mut last = match self.last.lock() {
            Ok(last) => last,
            Err(poisoned) => poisoned.into_inner(),
        };
        let due = always || last.is_none_or(|then| now.duration_since(then) >= Self::PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Progress for Lines {
    fn step(&self, what: &str) {
        self.due(true);
        eprintln!("{what}");
    }

    fn update(&self, detail: &str, done: Option<u64>, total: Option<u64>) {
        if self.due(false) {
            match (done, total) {
                (Some(done), Some(total)) => eprintln!("  {done}/{total} {detail}"),
                (Some(done), None) => eprintln!("  {done} {detail}"),
                _ => eprintln!("  {detail}"),
            }
        }
    }
}
