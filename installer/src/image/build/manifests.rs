//! Kubernetes manifests: the checkout's own, with the tags of our images filled
//! in, and the Gateway API's resource definitions from its Go module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Builder;
use super::command::run;
use super::container::OWN;
use super::part::{Key, Part};
use crate::image::error::Context as _;
use crate::image::{Error, Result};

const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";

impl Builder<'_> {
    pub(super) fn manifests(&self) -> Result<Part> {
        let dir = self.images().join("manifests");
        let tags = self.own_tags()?;
        let mut files = Vec::new();
        if dir.is_dir() {
            for entry in std::fs::read_dir(&dir).on("reading", &dir)? {
                let path = entry.on("reading", &dir)?.path();
                if path.extension().is_some_and(|e| e == "yaml") {
                    files.push(path);
                }
            }
        }
        files.sort();
        let module = self.images().join("gateway-api");
        let mut key = Key::new("manifests 1")
            .with_file("go.mod", &module.join("go.mod"))?
            .with_file("go.sum", &module.join("go.sum"))?;
        let mut texts = Vec::new();
        for file in &files {
            let text = std::fs::read_to_string(file).on("reading", file)?;
            let text = fill_in(&text, &tags, file)?;
            let name = file.file_name().unwrap_or_default().to_owned();
            key = key.with(&name.to_string_lossy(), &text);
            texts.push((name, text));
        }
        let key = key.finish();
        self.parts.get("manifests", &key, |into| {
            for (name, text) in &texts {
                let to = into.join(name);
                std::fs::write(&to, text).on("writing", &to)?;
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

/// Gives each of our own images that a manifest names without a tag the tag of
/// the image that was built.
fn fill_in(text: &str, tags: &BTreeMap<String, String>, file: &Path) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OWN) {
        let (before, found) = rest.split_at(at);
        let end = found
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_')))
            .unwrap_or(found.len());
        let (name, after) = found.split_at(end);
        filled.push_str(before);
        filled.push_str(name);
        if !after.starts_with([':', '@']) {
            let Some(tag) = tags.get(name) else {
                let line = text.get(..text.len() - found.len()).unwrap_or_default().matches('\n').count() + 1;
                return Err(Error::Kubefile {
                    file: file.to_owned(),
                    line,
                    why: format!(
                        "no image {name} is built: there are {}",
                        tags.keys().cloned().collect::<Vec<_>>().join(", ")
                    ),
                });
            };
            filled.push(':');
            filled.push_str(tag);
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_images_get_their_tag() {
        let tags = BTreeMap::from([(format!("{OWN}routes"), "abc".to_owned())]);
        let fill = |text: &str| fill_in(text, &tags, Path::new("x.yaml"));
        assert_eq!(
            fill(&format!("a: 1\nimage: {OWN}routes\nother: \"{OWN}routes\"\n")).unwrap(),
            format!("a: 1\nimage: {OWN}routes:abc\nother: \"{OWN}routes:abc\"\n")
        );
        assert_eq!(fill(&format!("{OWN}routes:current")).unwrap(), format!("{OWN}routes:current"));
        assert_eq!(fill("image: registry.k8s.io/pause").unwrap(), "image: registry.k8s.io/pause");
        let error = fill(&format!("a\nimage: {OWN}nope\n")).unwrap_err().to_string();
        assert!(error.starts_with("x.yaml:2: no image"), "{error}");
    }
}
