//! The access log: a line of JSON for each request, where it is wanted.
//!
//! Lines go to a thread of their own. A request never waits for whoever reads the
//! log: what that one is too slow for is left out, and counted.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::metrics::Metrics;

/// Lines that wait to be written.
const WAITING: usize = 8192;
/// Bytes of a path that are written; a client can send a great many.
const LONGEST: usize = 1024;

/// What is told of a request. A query is not: it may carry secrets.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub trace: &'a str,
    pub client: IpAddr,
    pub namespace: Option<&'a str>,
    /// The object that has routed it.
    pub kind: Option<&'a str>,
    pub route: Option<&'a str>,
    pub protocol: &'a str,
    pub tls: Option<&'a str>,
    pub host: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// Bytes of its body, and of the answer's.
    pub received: u64,
    pub sent: u64,
    pub seconds: f64,
    /// From when the last endpoint was chosen to the head of its answer.
    pub upstream_seconds: Option<f64>,
    pub endpoint: Option<SocketAddr>,
    /// Endpoints that were asked.
    pub attempts: usize,
}

#[derive(Serialize)]
struct Record<'a> {
    timestamp: String,
    level: &'static str,
    target: &'static str,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

#[derive(Debug)]
pub struct AccessLog {
    lines: Option<SyncSender<Vec<u8>>>,
    writing: std::sync::Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Writes to the process' standard output.
    pub fn to_stdout(metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        Self::to(std::io::stdout(), metrics)
    }

    pub fn to(writer: impl Write + Send + 'static, metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        let (lines, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let writing = thread.spawn(move || write(&waiting, writer)).map_err(Error::AccessLog)?;
        let writing = std::sync::Mutex::new(Some(writing));
        Ok(Arc::new(Self { lines: Some(lines), writing, metrics }))
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let timestamp = Timestamp::now().to_string();
        let record = Record { timestamp, level: "INFO", target: "gateway::access", line };
        let Ok(mut text) = serde_json::to_vec(&record) else { return };
        text.push(b'\n');
        if self.lines.as_ref().is_none_or(|lines| lines.try_send(text).is_err()) {
            self.metrics.access_lines_left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    /// What was taken is written.
    fn drop(&mut self) {
        self.lines = None;
        let writing = self.writing.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writing) = writing {
            let _ = writing.join();
        }
    }
}

fn write(waiting: &Receiver<Vec<u8>>, writer: impl Write) {
    let mut writer = std::io::BufWriter::with_capacity(64 << 10, writer);
    // As many at once as there are, and nothing is held back when there are none.
    while let Ok(line) = waiting.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            if writer.write_all(&line).is_err() {
                return;
            }
            next = waiting.try_recv().ok();
        }
        if writer.flush().is_err() {
            return;
        }
    }
}

/// A path as it is told: not more of it than anybody reads.
pub(crate) fn shortened(path: &str) -> &str {
    let mut end = path.len().min(LONGEST);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.get(..end).unwrap_or_default()
}

pub(crate) fn seconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A reader that can be made to wait.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line(path: &str) -> Line<'_> {
        Line {
            trace: "1",
            client: [127, 0, 0, 1].into(),
            namespace: Some("a"),
            kind: None,
            route: None,
            protocol: "HTTP/1.1",
            tls: None,
            host: "a.example",
            method: "GET",
            path,
            status: 200,
            received: 0,
            sent: 1,
            seconds: 0.5,
            upstream_seconds: None,
            endpoint: None,
            attempts: 0,
        }
    }

    #[test]
    fn one_request_is_one_line_whatever_it_says() {
        let kept = Kept::default();
        let log = AccessLog::to(kept.clone(), Arc::default()).unwrap();
        log.write(&line("/\n{\"status\":500}\u{7f}\"\\"));
        log.write(&line("/b"));
        drop(log);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["path"], "/\n{\"status\":500}\u{7f}\"\\");
        assert_eq!((&lines[1]["path"], &lines[1]["target"]), (&"/b".into(), &"gateway::access".into()));
    }

    #[test]
    fn who_reads_slowly_makes_nobody_wait() {
        let kept = Kept::default();
        let held = kept.clone();
        let hold = held.0.lock().unwrap();
        let metrics = Arc::new(Metrics::default());
        let log = AccessLog::to(kept.clone(), metrics.clone()).unwrap();
        let many = WAITING * 2 + 2000;
        for _ in 0..many {
            log.write(&line("/"));
        }
        let left_out = metrics.access_lines_left_out.load(Ordering::Relaxed);
        assert!(left_out > 0, "{left_out}");
        drop(hold);
        drop(log);
        let written = kept.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(written + left_out, many as u64);
    }

    #[test]
    fn a_long_path_is_cut_between_letters() {
        let path = format!("/{}é{}", "a".repeat(LONGEST - 2), "b".repeat(100));
        assert_eq!(shortened(&path).len(), LONGEST - 1);
        assert_eq!(shortened("/a"), "/a");
    }
}
