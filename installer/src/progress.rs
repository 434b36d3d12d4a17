//! How long work tells what it is doing.

/// Receives what a long piece of work does and how far it is.
///
/// Whoever does something that can take more than a few seconds calls
/// [`Progress::update`] at least every ten seconds, so that nobody watches a
/// silent terminal.
pub trait Progress: Send + Sync {
    /// A new step begins, such as `building Kubernetes`.
    fn step(&self, what: &str);
    /// The step goes on: what it is at, and how far of how much if that is known.
    fn update(&self, detail: &str, done: Option<u64>, total: Option<u64>);
}

/// Says nothing; for tests and for work that is a part of something larger.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _what: &str) {}
    fn update(&self, _detail: &str, _done: Option<u64>, _total: Option<u64>) {}
}
