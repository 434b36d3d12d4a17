//! Locks between processes, and waiting for them aloud.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::Result;
use super::error::Context as _;

/// How often it is tried, and how often it is said that somebody else has it.
const TRY: Duration = Duration::from_millis(100);
const SAY: Duration = Duration::from_secs(5);

/// Held until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits until nobody else holds the file's lock. `waiting` is told now and
/// again who does.
pub(crate) fn lock(path: &Path, waiting: impl Fn(&str)) -> Result<Lock> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .on("opening", path)?;
    let began = Instant::now();
    let mut said = None;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).on("locking", path),
        }
        if said.is_none_or(|then: Instant| then.elapsed() >= SAY) {
            let holder = std::fs::read_to_string(path).unwrap_or_default();
            waiting(&format!(
                "waiting for process {} to finish with {} ({} s)",
                holder.trim(),
                path.parent().unwrap_or(path).display(),
                began.elapsed().as_secs()
            ));
            said = Some(Instant::now());
        }
        std::thread::sleep(TRY);
    }
    file.set_len(0).on("writing", path)?;
    file.write_all_at(std::process::id().to_string().as_bytes(), 0).on("writing", path)?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_waits_and_says_for_whom() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path, |_| {}).unwrap();
        let (said, heard) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || lock(&path, |text| said.send(text.to_owned()).unwrap()).map(drop)
        });
        let text = heard.recv().unwrap();
        assert!(text.contains(&format!("process {} ", std::process::id())), "{text}");
        drop(first);
        second.join().unwrap().unwrap();
    }
}
