//! What the desktop is made from, as one hash: unchanged input is not built
//! again.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::toolchain::Toolchain;
use crate::{Error, at};

/// In the output; tells from what it was made. The server doesn't serve it.
pub(crate) const KEY_FILE: &str = ".made-from";
/// Changes when what [`crate::files`] writes changes.
const REVISION: &str = "1";
/// Files and folders, from the workspace, that decide what is made.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "crates/api", "frontend"];

pub(crate) fn key(workspace: &Path, toolchain: &Toolchain) -> Result<String, Error> {
    let mut paths = Vec::new();
    for source in SOURCES {
        collect(&workspace.join(source), &mut paths)?;
    }
    paths.sort();
    let mut hash = Sha256::new();
    for text in [REVISION, toolchain.version()] {
        part(&mut hash, text.as_bytes());
    }
    for path in paths {
        let name = path.strip_prefix(workspace).unwrap_or(&path);
        part(&mut hash, name.as_os_str().as_encoded_bytes());
        part(&mut hash, &fs::read(&path).map_err(at(&path))?);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !path.is_dir() {
        into.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(at(path))? {
        let entry = entry.map_err(at(path))?;
        // An editor's own files, and what a build left.
        if !entry.file_name().to_string_lossy().starts_with('.') && entry.file_name() != "target" {
            collect(&entry.path(), into)?;
        }
    }
    Ok(())
}

/// With its length, so that no two lists of parts look alike.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Sixteen hexadecimal digits.
pub(crate) fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for bytes in parts {
        part(&mut hash, bytes);
    }
    hex(&hash.finalize()[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name for where a checkout is.
pub fn place(workspace: &Path) -> String {
    let digest = Sha256::digest(workspace.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["crates/api", "frontend/src"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["Cargo.toml", "Cargo.lock", "crates/api/a.rs", "frontend/src/b.rs"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn every_input_changes_the_key_and_nothing_else_does() {
        let folder = workspace();
        let of = |version: &str| key(folder.path(), &Toolchain::Rustup(version.to_owned())).unwrap();
        let mut seen = vec![of("1")];
        assert_eq!(of("1"), seen[0]);
        fs::write(folder.path().join("frontend/.swap"), "x").unwrap();
        fs::write(folder.path().join("README.md"), "x").unwrap();
        assert_eq!(of("1"), seen[0]);

        seen.push(of("2"));
        for name in ["Cargo.lock", "crates/api/a.rs", "frontend/src/b.rs"] {
            fs::write(folder.path().join(name), "changed").unwrap();
            seen.push(of("1"));
        }
        fs::rename(folder.path().join("frontend/src/b.rs"), folder.path().join("frontend/src/c.rs")).unwrap();
        seen.push(of("1"));
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn parts_are_told_apart_by_their_lengths() {
        assert_ne!(short_hash(&[b"ab", b"c"]), short_hash(&[b"a", b"bc"]));
    }
}
