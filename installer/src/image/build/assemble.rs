//! From a Kubefile and its parts to an image: each COPY a layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::part::{Key, Part};
use crate::image::blobs::write_atomically;
use crate::image::error::Context as _;
use crate::image::kubefile::{Copy, Kubefile};
use crate::image::layer::{self, Owner, Source, tree_digest};
use crate::image::oci::{self, Config, Descriptor, Digest, Manifest, RootFs, Settings};
use crate::image::store::MADE_BY;
use crate::image::{
    Error, FORMAT, Image, LABEL_ARCH, LABEL_FORMAT, LABEL_IMAGE, LABEL_KUBERNETES, Result, Store,
};
use crate::progress::Progress;

/// All images are of the same moment, so that the same content is the same image.
const EPOCH: &str = "1970-01-01T00:00:00Z";

pub(super) fn assemble(
    store: &Store,
    kubefile: &Kubefile,
    file: &Path,
    parts: &BTreeMap<String, Part>,
    name: &str,
    progress: &dyn Progress,
) -> Result<Image> {
    let lock = store.lock(|why| progress.update(why, None, None))?;
    let mut layers = Vec::new();
    let mut labels = BTreeMap::new();
    let mut env = BTreeMap::new();
    if let Some(from) = &kubefile.from {
        let base = store.find(from)?;
        Store::check(&base.labels, oci::this_architecture(), from)?;
        let manifest = store.manifest(&Descriptor::new(oci::MANIFEST, base.digest.clone(), 0))?;
        let config = store.config(&manifest)?;
        for variable in config.config.env.unwrap_or_default() {
            if let Some((name, value)) = variable.split_once('=') {
                env.insert(name.to_owned(), value.to_owned());
            }
        }
        labels = base.labels;
        layers = manifest.layers;
    }
    labels.extend(kubefile.labels.clone());
    env.extend(kubefile.env.clone());
    check_labels(&labels, file)?;

    let context = file.parent().unwrap_or(Path::new("/"));
    let total = kubefile.copies.len() as u64;
    for (done, copy) in kubefile.copies.iter().enumerate() {
        progress.update("layers packed", Some(done as u64), Some(total));
        layers.push(layer_of(store, copy, file, context, parts, progress)?);
    }

    let config = Config {
        created: Some(EPOCH.to_owned()),
        architecture: oci::this_architecture().to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            env: (!env.is_empty()).then(|| env.iter().map(|(n, v)| format!("{n}={v}")).collect()),
            labels: Some(labels),
        },
        // Layers aren't compressed, so the blobs' digests are the contents'.
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|l| l.digest.clone()).collect(),
        },
    };
    let (digest, size) = store.blobs().write(&json(&config, file)?)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::MANIFEST.to_owned()),
        config: Descriptor::new(oci::CONFIG, digest, size),
        layers,
    };
    let (digest, size) = store.blobs().write(&json(&manifest, file)?)?;
    let image = store.put(&lock, name, Descriptor::new(oci::MANIFEST, digest, size))?;
    store.touch(&image.digest)?;
    Ok(image)
}

fn json<T: Serialize>(value: &T, file: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::BadStore { path: file.to_owned(), why: e.to_string() })
}

/// Without these labels nobody could use the image.
fn check_labels(labels: &BTreeMap<String, String>, file: &Path) -> Result<()> {
    let expected = [
        (LABEL_IMAGE, "cluster".to_owned()),
        (LABEL_FORMAT, FORMAT.to_string()),
        (LABEL_ARCH, oci::this_architecture().to_owned()),
    ];
    for (name, value) in expected {
        if labels.get(name) != Some(&value) {
            return Err(Error::Kubefile {
                file: file.to_owned(),
                line: 1,
                why: format!(
                    "its label {name} must be {value}: write LABEL {name}={value}, or begin FROM a cluster image"
                ),
            });
        }
    }
    if !labels.contains_key(LABEL_KUBERNETES) {
        return Err(Error::Kubefile {
            file: file.to_owned(),
            line: 1,
            why: format!(
                "it has no label {LABEL_KUBERNETES}; write the version of Kubernetes that it carries"
            ),
        });
    }
    Ok(())
}

/// What is remembered of a layer that was packed, by what it was packed from.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    digest: Digest,
    size: u64,
}

fn layer_of(
    store: &Store,
    copy: &Copy,
    file: &Path,
    context: &Path,
    parts: &BTreeMap<String, Part>,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    let part = match &copy.from {
        Some(name) => Some(parts.get(name).ok_or_else(|| Error::Build {
            what: format!("the part {name}"),
            why: "it was not built".to_owned(),
        })?),
        None => None,
    };
    let mut key = Key::new("layer 1").with("to", copy.dest.as_os_str().as_encoded_bytes());
    key = key.with("into folder", [u8::from(copy.into_folder)]).with("owner", format!("{:?}", copy.owner));
    for source in &copy.sources {
        key = key.with("source", source.as_os_str().as_encoded_bytes());
        key = match part {
            Some(part) => key.with("part", part.tree.hex()),
            None => {
                let path = context.join(source);
                let real = inside_of(&path, context, file, copy.line)?;
                key.with("tree", tree_digest(&real)?.hex())
            }
        };
    }
    let key = key.finish();
    let remembered = store.cache().join("parts/layers").join(key.hex());
    let packed =
        std::fs::read(&remembered).ok().and_then(|bytes| serde_json::from_slice::<Packed>(&bytes).ok());
    let packed = match packed.filter(|p| store.blobs().has(&p.digest, p.size)) {
        Some(packed) => packed,
        None => {
            let made_by = describe(copy);
            progress.step(&format!("packing the layer {made_by}"));
            // A part is checked before it is copied; the folder is the user's own.
            let root = match part {
                Some(part) => part.checked()?,
                None => context.to_owned(),
            };
            let owner = match (copy.owner, part) {
                (Some((uid, gid)), _) => Owner::Is(uid, gid),
                (None, Some(_)) => Owner::Keep,
                (None, None) => Owner::Is(0, 0),
            };
            let mut sources = Vec::new();
            for source in &copy.sources {
                let path = inside_of(&root.join(source), &root, file, copy.line)?;
                let dest = destination(copy, source, path.is_dir());
                sources.push(Source { path, dest, owner });
            }
            let blob = layer::pack(&sources, store.blobs().create()?)?;
            let (digest, size) = blob.finish()?;
            let packed = Packed { digest, size };
            write_atomically(&remembered, &json(&packed, &remembered)?)?;
            packed
        }
    };
    let mut layer = Descriptor::new(oci::LAYER, packed.digest, packed.size);
    layer.annotations.insert(MADE_BY.to_owned(), describe(copy));
    Ok(layer)
}

/// A folder's content goes to the destination, a file into it or to its place.
fn destination(copy: &Copy, source: &Path, is_folder: bool) -> PathBuf {
    match source.file_name() {
        Some(name) if copy.into_folder && !is_folder => copy.dest.join(name),
        _ => copy.dest.clone(),
    }
}

fn describe(copy: &Copy) -> String {
    let from = copy.from.as_ref().map_or_else(String::new, |from| format!("--from={from} "));
    let shown = |p: &PathBuf| if p.as_os_str().is_empty() { ".".to_owned() } else { p.display().to_string() };
    let sources: Vec<_> = copy.sources.iter().map(shown).collect();
    format!("COPY {from}{} /{}", sources.join(" "), copy.dest.display())
}

/// Resolves links in a source's path, and refuses those that leave the folder.
fn inside_of(path: &Path, root: &Path, file: &Path, line: usize) -> Result<PathBuf> {
    let wrong = |why: String| Error::Kubefile { file: file.to_owned(), line, why };
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let real = path
        .canonicalize()
        .map_err(|e| wrong(format!("{shown}: {e}; its path is relative to {}", root.display())))?;
    let root = root.canonicalize().on("reading", root)?;
    if !real.starts_with(&root) {
        return Err(wrong(format!("{shown} leads out of {}; copy it there", root.display())));
    }
    Ok(real)
}
