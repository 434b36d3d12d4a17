//! Container images: one folder `images/containers/<group>/<name>` each, with a
//! Containerfile that buildah builds.
//!
//! The Containerfile's comments say what its context gets beside the folder's
//! own files: `# name:` the image's full name, `# packages:` Debian packages,
//! found as `rootfs.tar` (`-package` leaves one out), `# programs:` parts, whose
//! programs are found in `bin/`, `# files:` parts, found as they are in `files/`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Builder;
use super::command::{ask, run};
use super::debian::Packages;
use super::part::{Key, Part};
use crate::image::blobs::{Blobs, link_or_copy};
use crate::image::containers::read_index;
use crate::image::error::Context as _;
use crate::image::layer::{self, Owner, Source};
use crate::image::oci::{self, Descriptor, Digest, Index, Manifest};
use crate::image::reference::split_tag;
use crate::image::{Error, Result};

/// Whose images get a tag from their content.
pub(crate) const OWN: &str = "registry.atoll.local/system/";

/// What a Containerfile's comments say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recipe {
    names: Vec<String>,
    packages: Packages,
    programs: Vec<String>,
    files: Vec<String>,
}

impl Recipe {
    fn parse(text: &str, file: &Path) -> Result<Self> {
        let mut recipe = Self::default();
        for (line, text) in text.lines().enumerate() {
            let Some((word, rest)) = text.strip_prefix('#').and_then(|t| t.trim().split_once(':')) else {
                continue;
            };
            let words = rest.split_whitespace().map(str::to_owned);
            match word {
                "name" => {
                    for name in words {
                        let wrong =
                            |why: String| Error::Kubefile { file: file.to_owned(), line: line + 1, why };
                        crate::image::Reference::parse(&name).map_err(|e| wrong(e.to_string()))?;
                        recipe.names.push(name);
                    }
                }
                "packages" => recipe.packages.add(rest),
                "programs" => recipe.programs.extend(words),
                "files" => recipe.files.extend(words),
                _ => {}
            }
        }
        if recipe.names.is_empty() {
            return Err(Error::Kubefile {
                file: file.to_owned(),
                line: 1,
                why: "it doesn't say the image's name: begin with a comment `# name: <full name>`".to_owned(),
            });
        }
        Ok(recipe)
    }
}

impl Builder<'_> {
    fn container_dirs(&self, group: &str) -> Result<Vec<PathBuf>> {
        let dir = self.images().join("containers").join(group);
        let entries = std::fs::read_dir(&dir).map_err(|_| Error::Build {
            what: format!("the part images-{group}"),
            why: format!("there is no folder {}; make one with a folder for each image", dir.display()),
        })?;
        let mut dirs = Vec::new();
        for entry in entries {
            let path = entry.on("reading", &dir)?.path();
            if path.join("Containerfile").is_file() {
                dirs.push(path);
            }
        }
        dirs.sort();
        Ok(dirs)
    }

    /// A group's images as one OCI layout.
    pub(super) fn group(&self, group: &str) -> Result<Part> {
        let mut images = Vec::new();
        let mut key = Key::new("group 1");
        for dir in self.container_dirs(group)? {
            let (names, part) = self.container(&dir)?;
            for name in &names {
                key = key.with(name, part.key.hex());
            }
            images.push((names, part));
        }
        let key = key.finish();
        self.parts.get(&format!("images-{group}"), &key, |into| {
            let blobs = into.join("blobs/sha256");
            std::fs::create_dir_all(&blobs).on("making", &blobs)?;
            let mut index = Index::default();
            for (names, part) in &images {
                let content = part.checked()?;
                for entry in std::fs::read_dir(content.join("blobs/sha256")).on("reading", &content)? {
                    let entry = entry.on("reading", &content)?;
                    let to = blobs.join(entry.file_name());
                    if !to.exists() {
                        link_or_copy(&entry.path(), &to)?;
                    }
                }
                for one in read_index(&content)?.manifests {
                    for name in names {
                        index.put(name, Descriptor::new(&one.media_type, one.digest.clone(), one.size));
                    }
                }
            }
            write_layout(into, &index)
        })
    }

    /// One container image: its full names, and its layout of one manifest.
    fn container(&self, dir: &Path) -> Result<(Vec<String>, Part)> {
        let file = dir.join("Containerfile");
        let text = std::fs::read_to_string(&file).on("reading", &file)?;
        let recipe = Recipe::parse(&text, &file)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();

        let mut programs = Vec::new();
        for program in &recipe.programs {
            programs.push(self.part(program, &file, 1)?);
        }
        let mut files = Vec::new();
        for part in &recipe.files {
            files.push(self.part(part, &file, 1)?);
        }
        let rootfs = match recipe.packages.is_empty() {
            true => None,
            false => Some(self.debian("rootfs", &name, &recipe.packages)?),
        };
        let mut key = Key::new("container 2")
            .with("architecture", oci::this_architecture())
            .with_folder("context", dir)?;
        for part in programs.iter().chain(&files).chain(&rootfs) {
            // The content, not the inputs: the same program has the same image.
            key = key.with("part", part.tree.hex());
        }
        let key = key.finish();
        let part = self.parts.get(&format!("container-{name}"), &key, |into| {
            self.build_container(&name, dir, &programs, &files, rootfs.as_ref(), into)
        })?;
        let mut names = Vec::new();
        for full in &recipe.names {
            names.extend(self.tagged(full, &file, &part.key)?);
        }
        Ok((names, part))
    }

    fn tagged(&self, name: &str, file: &Path, key: &Digest) -> Result<Vec<String>> {
        if split_tag(name).1.is_some() {
            return Ok(vec![name.to_owned()]);
        }
        if name.starts_with(OWN) {
            return Ok(vec![format!("{name}:{}", key.short()), format!("{name}:current")]);
        }
        match self.kubeadm_tags()?.get(name) {
            Some(tag) => Ok(vec![format!("{name}:{tag}")]),
            None => Err(Error::Kubefile {
                file: file.to_owned(),
                line: 1,
                why: format!(
                    "{name} has no tag, and kubeadm doesn't want an image of this name; write {name}:<tag>"
                ),
            }),
        }
    }

    fn build_container(
        &self,
        name: &str,
        dir: &Path,
        programs: &[Part],
        files: &[Part],
        rootfs: Option<&Part>,
        into: &Path,
    ) -> Result<()> {
        self.require("buildah")?;
        self.progress.step(&format!("building the container image {name}"));
        let parent = self.parts.dir();
        let context =
            tempfile::Builder::new().prefix(".new-").tempdir_in(parent).on("making a folder in", parent)?;
        copy_folder(dir, context.path())?;
        let bin = context.path().join("bin");
        std::fs::create_dir_all(&bin).on("making", &bin)?;
        for part in programs {
            collect_programs(&part.checked()?, &bin)?;
        }
        for part in files {
            copy_folder(&part.checked()?, &context.path().join("files"))?;
        }
        if let Some(rootfs) = rootfs {
            let path = context.path().join("rootfs.tar");
            let out = BufWriter::with_capacity(1 << 20, File::create(&path).on("writing", &path)?);
            let source = Source { path: rootfs.checked()?, dest: PathBuf::new(), owner: Owner::Keep };
            std::io::Write::flush(&mut layer::pack(&[source], out)?).on("writing", &path)?;
        }

        let buildah = self.buildah()?;
        let log = self.log(&format!("container-{name}"));
        let what = format!("building the container image {name}");
        let tag = format!("localhost/atoll/{name}:new");
        let mut build = buildah.command();
        build.args([
            "build",
            "--layers",
            "--timestamp=0",
            "--identity-label=false",
            "--isolation=chroot",
            "--pull-never",
        ]);
        build
            .arg("--tag")
            .arg(&tag)
            .arg("--file")
            .arg(context.path().join("Containerfile"))
            .arg(context.path());
        run(&mut build, &what, &log, self.progress, |line, state| {
            state.detail = format!("{name}: {line}");
        })?;
        // To an OCI layout buildah would compress: a plain folder gets layers as they are.
        let pushed = context.path().join("pushed");
        let mut push = buildah.command();
        push.args(["push", "--quiet", "--disable-compression", "--format=oci"]).arg(&tag);
        push.arg(format!("dir:{}", pushed.display()));
        run(&mut push, &what, &log, self.progress, |_, _| {})?;
        let mut remove = buildah.command();
        remove.args(["rmi", "--all", "--force"]);
        ask(&mut remove, &what, &log)?;
        take_in(&pushed, into, name)
    }

    fn buildah(&self) -> Result<Buildah> {
        let root = self.cache.join("buildah");
        std::fs::create_dir_all(&root).on("making", &root)?;
        // Overlay doesn't work on top of overlay, as in a container; vfs always does.
        for driver in ["overlay", "vfs"] {
            let buildah = Buildah { root: root.join(driver), driver };
            if buildah.command().arg("info").output().is_ok_and(|o| o.status.success()) {
                return Ok(buildah);
            }
        }
        Err(Error::Build {
            what: "buildah".to_owned(),
            why: format!("it can't use {}; run as root, on a disk with room", root.display()),
        })
    }
}

struct Buildah {
    root: PathBuf,
    driver: &'static str,
}

impl Buildah {
    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.root.join("root")).arg("--runroot").arg(self.root.join("run"));
        command.args(["--storage-driver", self.driver]);
        command.env_remove("STORAGE_DRIVER").env_remove("STORAGE_OPTS");
        command
    }
}

fn write_layout(dir: &Path, index: &Index) -> Result<()> {
    let path = dir.join("index.json");
    let bytes =
        serde_json::to_vec(index).map_err(|e| Error::BadStore { path: path.clone(), why: e.to_string() })?;
    std::fs::write(&path, bytes).on("writing", &path)?;
    let path = dir.join("oci-layout");
    std::fs::write(&path, oci::LAYOUT).on("writing", &path)
}

/// Makes an OCI layout of the folder that buildah wrote: a manifest, and blobs by
/// their digest. Layers must be uncompressed, because unpacking is what takes
/// time when a cluster starts.
fn take_in(pushed: &Path, into: &Path, name: &str) -> Result<()> {
    let wrong = |why: String| Error::Build { what: format!("the container image {name}"), why };
    let path = pushed.join("manifest.json");
    let bytes = std::fs::read(&path).on("reading", &path)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|e| wrong(format!("buildah wrote a manifest that can't be read: {e}")))?;
    if let Some(layer) = manifest.layers.iter().find(|l| l.media_type != oci::LAYER) {
        return Err(wrong(format!(
            "buildah wrote a layer of the type {}; use buildah 1.28 or newer",
            layer.media_type
        )));
    }
    let blobs = Blobs::of_layout(into);
    let (digest, size) = blobs.write(&bytes)?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let to = blobs.path(&blob.digest);
        if !to.exists() {
            let from = pushed.join(blob.digest.hex());
            std::fs::rename(&from, &to).on("moving", &from)?;
            crate::image::blobs::set_mode(&to, 0o644)?;
        }
        blobs.open(&blob.digest)?.finish()?;
    }
    let index = Index { manifests: vec![Descriptor::new(oci::MANIFEST, digest, size)], ..Index::default() };
    write_layout(into, &index)
}

/// Copies a folder of the checkout with modes that don't depend on who has it.
pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(to).on("making", to)?;
    for entry in std::fs::read_dir(from).on("reading", from)? {
        let entry = entry.on("reading", from)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let meta = from.metadata().on("reading", &from)?;
        if meta.is_dir() {
            copy_folder(&from, &to)?;
            crate::image::blobs::set_mode(&to, 0o755)?;
        } else {
            std::fs::copy(&from, &to).on("writing", &to)?;
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            crate::image::blobs::set_mode(&to, mode)?;
        }
    }
    Ok(())
}

/// Gathers every program of a part, wherever it is in there, and its other names
/// in one folder.
fn collect_programs(from: &Path, bin: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).on("reading", from)? {
        let entry = entry.on("reading", from)?;
        let kind = entry.file_type().on("reading", &entry.path())?;
        if kind.is_dir() {
            collect_programs(&entry.path(), bin)?;
        } else if kind.is_file() {
            link_or_copy(&entry.path(), &bin.join(entry.file_name()))?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).on("reading", &entry.path())?;
            std::os::unix::fs::symlink(target, bin.join(entry.file_name())).on("making", bin)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containerfile_says_what_its_image_needs() {
        let text = "# name: registry.k8s.io/kube-proxy\n# packages: iptables nftables\n# packages: ipset\n\
            # programs: kubernetes\n# Any other comment.\nFROM scratch\n";
        let recipe = Recipe::parse(text, Path::new("Containerfile")).unwrap();
        assert_eq!(recipe.names, ["registry.k8s.io/kube-proxy"]);
        let mut packages = Packages::default();
        packages.add("ipset iptables nftables");
        assert_eq!(recipe.packages, packages);
        assert_eq!(recipe.programs, ["kubernetes"]);
        for bad in ["FROM scratch\n", "# name: UPPER\n"] {
            let error = Recipe::parse(bad, Path::new("Containerfile")).unwrap_err().to_string();
            assert!(error.starts_with("Containerfile:1: "), "{error}");
        }
    }
}
