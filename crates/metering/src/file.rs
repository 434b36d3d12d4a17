//! The recorder's state in a file.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::{Error, Recorder};

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { action, path, source }
}

/// Takes the state up again, or begins one under `epoch` where there is none.
pub fn load(path: &Path, epoch: impl FnOnce() -> String) -> Result<Recorder, Error> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|source| Error::Damaged { path: path.display().to_string(), source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Recorder::new(epoch())),
        Err(error) => Err(failed("reading", path)(error)),
    }
}

/// Writes the state down; whatever happens meanwhile, the file holds the one
/// before or this one.
pub fn save(path: &Path, recorder: &Recorder) -> Result<(), Error> {
    let text = serde_json::to_vec(recorder)
        .map_err(|source| Error::Damaged { path: path.display().to_string(), source })?;
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial).map_err(failed("creating", &partial))?;
    file.write_all(&text).map_err(failed("writing", &partial))?;
    file.sync_all().map_err(failed("writing", &partial))?;
    fs::rename(&partial, path).map_err(failed("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_taken_up_again_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let recorder = load(&path, || "one".into()).unwrap();
        save(&path, &recorder).unwrap();
        assert_eq!(load(&path, || "two".into()).unwrap(), recorder);
        fs::write(&path, "{").unwrap();
        assert!(load(&path, || "two".into()).unwrap_err().to_string().contains("state.json"));
    }
}
