//! Kubernetes manifests: the checkout's own, and the Gateway API's resource
//! definitions from its Go module.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Builder;
use super::command::run;
use super::part::{Key, Part};
use crate::image::error::Context as _;
use crate::image::{Error, Result};

const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";

impl Builder<'_> {
    pub(super) fn manifests(&self) -> Result<Part> {
        let dir = self.images().join("manifests");
        let mut files = Vec::new();
        list(&dir, Path::new(""), &mut files)?;
        files.sort();
        let module = self.images().join("gateway-api");
        let mut key = Key::new("manifests 2")
            .with_file("go.mod", &module.join("go.mod"))?
            .with_file("go.sum", &module.join("go.sum"))?;
        for file in &files {
            key = key.with_file(&file.to_string_lossy(), &dir.join(file))?;
        }
        let key = key.finish();
        self.parts.get("manifests", &key, |into| {
            for file in &files {
                let to = into.join(file);
                let parent = to.parent().unwrap_or(into);
                std::fs::create_dir_all(parent).on("making", parent)?;
                std::fs::copy(dir.join(file), &to).on("copying", &to)?;
            }
            let crds = self.gateway_api(&module)?;
            let to = into.join("gateway-api.yaml");
            std::fs::write(&to, crds).on("writing", &to)
        })
    }

    /// The standard channel's definitions as one manifest; go.sum vouches for it.
    fn gateway_api(&self, module: &Path) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Downloaded {
            dir: PathBuf,
        }
        self.progress.step("fetching the Gateway API's resource definitions");
        let mut download = self.go()?.command(module);
        download.args(["mod", "download", "-json", GATEWAY_API]);
        let what = "fetching the Gateway API";
        let printed = run(&mut download, what, &self.log("gateway-api"), self.progress, |_, _| {}).map_err(
            |error| if self.offline { Error::Offline { part: "the Gateway API".to_owned() } } else { error },
        )?;
        let downloaded: Downloaded = serde_json::from_str(&printed)
            .map_err(|e| Error::Build { what: what.to_owned(), why: format!("go printed no module: {e}") })?;
        let dir = downloaded.dir.join("config/crd/standard");
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&dir).on("reading", &dir)? {
            files.push(entry.on("reading", &dir)?.path());
        }
        files.retain(|f| {
            let name = f.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.ends_with(".yaml") && name != "kustomization.yaml"
        });
        files.sort();
        let mut text = String::new();
        for file in files {
            let one = std::fs::read_to_string(&file).on("reading", &file)?;
            text.push_str("---\n");
            text.push_str(one.trim_start_matches("---\n").trim_end());
            text.push('\n');
        }
        Ok(text)
    }
}

/// The manifests below a folder, by their path in it.
fn list(dir: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let here = dir.join(below);
    for entry in std::fs::read_dir(&here).on("reading", &here)? {
        let entry = entry.on("reading", &here)?;
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            list(dir, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_found_in_folders_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("static")).unwrap();
        for file in ["a.yaml", "b.txt", "static/c.yaml"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let mut files = Vec::new();
        list(dir.path(), Path::new(""), &mut files).unwrap();
        files.sort();
        assert_eq!(files, [Path::new("a.yaml"), Path::new("static/c.yaml")]);
    }
}
