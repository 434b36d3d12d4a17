//! The objects that are served, in a file that only we can read, so that a
//! restart without the API server serves on.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::object::Object;

const FILE: &str = "gateway.json";

/// The snapshot in a directory of ours.
#[derive(Debug, Clone)]
pub struct Snapshot {
    directory: PathBuf,
}

impl Snapshot {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// None: nothing was saved yet.
    pub fn load(&self) -> Result<Option<Vec<Object>>, Error> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Snapshot { path, source }),
        };
        serde_json::from_reader(BufReader::new(file))
            .map(Some)
            .map_err(|source| Error::SnapshotFormat { path, source })
    }

    /// Replaces the file at once: a crash leaves the old one or the new one.
    pub fn save(&self, objects: &[Arc<Object>]) -> Result<(), Error> {
        let path = self.path();
        self.write(&path, objects).map_err(|source| Error::Snapshot { path, source })
    }

    fn write(&self, path: &Path, objects: &[Arc<Object>]) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let draft = self.directory.join(format!(".{FILE}.draft"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // A draft that a crash left keeps its mode, whatever that was.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        let mut writer = BufWriter::new(file);
        writer.write_all(b"[")?;
        for (number, object) in objects.iter().enumerate() {
            writer.write_all(if number == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut writer, object.as_ref())?;
        }
        writer.write_all(b"\n]\n")?;
        let file = writer.into_inner()?;
        file.sync_all()?;
        fs::rename(&draft, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Id, Protocol, Secret, Service, ServicePort};

    fn objects() -> Vec<Arc<Object>> {
        let ports = vec![ServicePort { name: "http".into(), number: 80, protocol: Protocol::H2c }];
        vec![
            Arc::new(Object::Service(Service { id: Id::new("a", "b"), ports, entrance: None })),
            Arc::new(Object::Secret(Secret {
                id: Id::new("a", "c"),
                certificate: vec![0, 255].into(),
                key: vec![1].into(),
                acme: false,
            })),
        ]
    }

    #[test]
    fn comes_back_as_it_was_saved_and_only_we_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::new(directory.path().join("deep"));
        assert!(snapshot.load().unwrap().is_none());
        fs::create_dir_all(directory.path().join("deep")).unwrap();
        let draft = directory.path().join("deep/.gateway.json.draft");
        fs::write(&draft, "left by a crash").unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).unwrap();
        snapshot.save(&objects()).unwrap();
        let back: Vec<_> = snapshot.load().unwrap().unwrap().into_iter().map(Arc::new).collect();
        assert_eq!(back, objects());
        let mode = fs::metadata(snapshot.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        snapshot.save(&[]).unwrap();
        assert_eq!(snapshot.load().unwrap().unwrap(), []);
    }

    #[test]
    fn bytes_are_kept_as_text_and_read_as_a_list() {
        let secret = |certificate: &str| {
            format!(
                "{{\"Secret\":{{\"id\":{{\"namespace\":\"a\",\"name\":\"b\"}},\"certificate\":{certificate},\"key\":\"k\"}}}}"
            )
        };
        let listed: Object = serde_json::from_str(&secret("[97,98]")).unwrap();
        assert_eq!(serde_json::to_string(&listed).unwrap(), secret("\"ab\""));
        assert_eq!(listed, serde_json::from_str(&secret("\"ab\"")).unwrap());
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::new(directory.path());
        fs::write(snapshot.path(), "[{\"Service\"").unwrap();
        assert!(snapshot.load().unwrap_err().to_string().contains("gateway.json can't be parsed"));
    }
}
