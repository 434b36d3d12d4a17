//! Layers: a tree of files to a tar and back.
//!
//! Packing the same tree gives the same bytes: sorted, with the time 0. Owners,
//! modes, symbolic and hard links, devices and file capabilities survive both
//! ways. Unpacking never leaves its folder: every entry is reached from it by
//! `openat2` without following a link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{
    self as sys, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::error::Context as _;
use super::oci::Digest;
use super::{Error, Result};

const XATTR: &str = "SCHILY.xattr.";
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Whose the files of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As on the disk.
    Keep,
    /// These numbers.
    Is(u64, u64),
}

/// A file or folder, and where in the layer it goes.
#[derive(Debug, Clone)]
pub struct Source {
    /// On the disk.
    pub path: PathBuf,
    /// In the layer, without a slash at its beginning; empty is the root itself.
    pub dest: PathBuf,
    /// Whose it is there.
    pub owner: Owner,
}

/// Writes a layer. A folder's content goes into its destination.
pub fn pack<W: Write>(sources: &[Source], out: W) -> Result<W> {
    let mut packer = Packer { tar: Builder::new(out), folders: BTreeSet::new(), linked: BTreeMap::new() };
    for source in sources {
        let mut parent = PathBuf::new();
        for component in source.dest.parent().unwrap_or(Path::new("")).components() {
            parent.push(component);
            packer.plain_folder(&parent)?;
        }
        packer.add(&source.path, &source.dest, source.owner)?;
    }
    packer.tar.into_inner().on("writing", Path::new("a layer"))
}

struct Packer<W: Write> {
    tar: Builder<W>,
    folders: BTreeSet<PathBuf>,
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn plain_folder(&mut self, path: &Path) -> Result<()> {
        if !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(EntryType::Directory, 0o755, 0, 0);
        self.tar.append_data(&mut header, path, std::io::empty()).on("packing", path)
    }

    fn add(&mut self, path: &Path, dest: &Path, owner: Owner) -> Result<()> {
        let meta = path.symlink_metadata().on("reading", path)?;
        let (uid, gid) = match owner {
            Owner::Keep => (u64::from(meta.uid()), u64::from(meta.gid())),
            Owner::Is(uid, gid) => (uid, gid),
        };
        let kind = meta.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                let mut header = header(EntryType::Link, meta.mode(), uid, gid);
                return self.tar.append_link(&mut header, dest, first).on("packing", path);
            }
            self.linked.insert((meta.dev(), meta.ino()), dest.to_owned());
        }
        if !dest.as_os_str().is_empty() {
            let xattrs = xattrs(path, &meta)?;
            if !xattrs.is_empty() {
                let entries: Vec<_> =
                    xattrs.iter().map(|(n, v)| (format!("{XATTR}{n}"), v.as_slice())).collect();
                self.tar
                    .append_pax_extensions(entries.iter().map(|(n, v)| (n.as_str(), *v)))
                    .on("packing", path)?;
            }
        }
        if kind.is_dir() {
            if !dest.as_os_str().is_empty() && self.folders.insert(dest.to_owned()) {
                let mut header = header(EntryType::Directory, meta.mode(), uid, gid);
                self.tar.append_data(&mut header, dest, std::io::empty()).on("packing", path)?;
            }
            for name in sorted_names(path)? {
                self.add(&path.join(&name), &dest.join(&name), owner)?;
            }
            return Ok(());
        }
        let added = if kind.is_symlink() {
            let target = std::fs::read_link(path).on("reading", path)?;
            let mut header = header(EntryType::Symlink, 0o777, uid, gid);
            self.tar.append_link(&mut header, dest, target)
        } else if kind.is_file() {
            let mut header = header(EntryType::Regular, meta.mode(), uid, gid);
            header.set_size(meta.len());
            let file = File::open(path).on("opening", path)?;
            self.tar.append_data(&mut header, dest, Exactly { file, left: meta.len() })
        } else {
            let kind = if kind.is_char_device() {
                EntryType::Char
            } else if kind.is_block_device() {
                EntryType::Block
            } else {
                EntryType::Fifo
            };
            let mut header = header(kind, meta.mode(), uid, gid);
            header.set_device_major(sys::major(meta.rdev())).on("packing", path)?;
            header.set_device_minor(sys::minor(meta.rdev())).on("packing", path)?;
            self.tar.append_data(&mut header, dest, std::io::empty())
        };
        added.on("packing", path)
    }
}

/// A file that must not change its length while it is packed: the archive
/// would be nonsense.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = (&mut self.file).take(self.left).read(buffer)?;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(std::io::Error::other("it became shorter while it was read"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn header(kind: EntryType, mode: u32, uid: u64, gid: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn sorted_names(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).on("reading", path)? {
        names.push(entry.on("reading", path)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The extended attributes that belong to a file's content: its capabilities
/// and its user's own, not those of the machine's policy.
fn xattrs(path: &Path, meta: &Metadata) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if meta.file_type().is_symlink() {
        return Ok(found);
    }
    let mut names = vec![0_u8; 1 << 16];
    let length = match sys::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error).on("reading the attributes of", path),
    };
    for name in names.get(..length).unwrap_or_default().split(|b| *b == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name != "security.capability" && !name.starts_with("user.") {
            continue;
        }
        let mut value = vec![0_u8; 1 << 16];
        let length =
            sys::lgetxattr(path, name, value.as_mut_slice()).on("reading the attributes of", path)?;
        value.truncate(length);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// The digest of a tree as it would be packed; the same for the same content.
pub fn tree_digest(path: &Path) -> Result<Digest> {
    let mut hash = Sha256::new();
    let mut linked = BTreeMap::new();
    hash_tree(path, Path::new(""), &mut hash, &mut linked)?;
    Ok(Digest::from_hash(&hash.finalize()))
}

fn hash_tree(
    path: &Path,
    dest: &Path,
    hash: &mut Sha256,
    linked: &mut BTreeMap<(u64, u64), PathBuf>,
) -> Result<()> {
    let meta = path.symlink_metadata().on("reading", path)?;
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(dest.as_os_str().as_bytes());
    let mode = if meta.file_type().is_symlink() { 0 } else { meta.mode() };
    for number in [u64::from(mode), u64::from(meta.uid()), u64::from(meta.gid()), meta.rdev()] {
        field(&number.to_le_bytes());
    }
    for (name, value) in xattrs(path, &meta)? {
        field(name.as_bytes());
        field(&value);
    }
    if meta.is_dir() {
        for name in sorted_names(path)? {
            hash_tree(&path.join(&name), &dest.join(&name), hash, linked)?;
        }
    } else if meta.file_type().is_symlink() {
        let target = std::fs::read_link(path).on("reading", path)?;
        field(target.as_os_str().as_bytes());
    } else if meta.is_file() {
        if meta.nlink() > 1 {
            if let Some(first) = linked.get(&(meta.dev(), meta.ino())) {
                field(first.as_os_str().as_bytes());
                return Ok(());
            }
            linked.insert((meta.dev(), meta.ino()), dest.to_owned());
        }
        field(&meta.len().to_le_bytes());
        let mut file = File::open(path).on("opening", path)?;
        std::io::copy(&mut file, hash).on("reading", path)?;
    }
    Ok(())
}

/// Unpacks a layer into an empty folder. `name` is the layer's name in messages.
pub fn unpack<R: Read>(reader: R, into: &Path, name: &str) -> Result<R> {
    let root = sys::open(into, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .on("opening", into)?;
    let mut unpacker = Unpacker {
        root,
        into,
        name,
        privileged: rustix::process::geteuid().is_root(),
        parent: None,
        times: Vec::new(),
    };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().on("reading", into)? {
        let mut entry = entry.map_err(|e| unpacker.error("its next entry", &e.to_string()))?;
        unpacker.entry(&mut entry)?;
    }
    unpacker.finish()?;
    Ok(archive.into_inner())
}

struct Unpacker<'a> {
    root: OwnedFd,
    into: &'a Path,
    name: &'a str,
    privileged: bool,
    parent: Option<(PathBuf, OwnedFd)>,
    times: Vec<(PathBuf, Timestamps)>,
}

impl Unpacker<'_> {
    fn error(&self, entry: &str, why: &str) -> Error {
        Error::Layer { layer: self.name.to_owned(), entry: entry.to_owned(), why: why.to_owned() }
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let escape = || Error::Escape { what: format!("the layer {}", self.name), entry: shown.clone() };
        let path = entry.path().map_err(|e| self.error(&shown, &e.to_string()))?;
        let path = inside(&path).ok_or_else(escape)?;
        let Some(file_name) = path.file_name().map(std::ffi::OsStr::to_owned) else {
            return Ok(());
        };
        let fail = |e: rustix::io::Errno| Error::Layer {
            layer: self.name.to_owned(),
            entry: shown.clone(),
            why: std::io::Error::from(e).to_string(),
        };
        let target = match entry.link_name().map_err(|e| self.error(&shown, &e.to_string()))? {
            Some(target) => target.into_owned(),
            None => PathBuf::new(),
        };
        let hard = if kind == EntryType::Link {
            let target = inside(&target).ok_or_else(escape)?;
            let name = target.file_name().ok_or_else(escape)?.to_owned();
            let folder = target.parent().unwrap_or(Path::new(""));
            Some((self.folder(folder, &shown)?.try_clone().on("opening", self.into)?, name))
        } else {
            None
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        self.folder(&parent, &shown)?;
        let privileged = self.privileged;
        let Some((_, dir)) = &self.parent else {
            return Err(self.error(&shown, "its folder can't be opened"));
        };

        let header = entry.header();
        let bad = |e: std::io::Error| self.error(&shown, &e.to_string());
        let mode = Mode::from_raw_mode(header.mode().map_err(bad)? & 0o7777);
        let number =
            |n: u64| u32::try_from(n).map_err(|_| self.error(&shown, "its owner is no user's number"));
        let uid = Uid::from_raw(number(header.uid().map_err(bad)?)?);
        let gid = Gid::from_raw(number(header.gid().map_err(bad)?)?);
        let seconds = i64::try_from(header.mtime().map_err(bad)?).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };

        // A layer may hide what lower ones have: overlayfs marks that its own way.
        let bytes = file_name.as_bytes();
        if bytes == OPAQUE {
            if privileged {
                let dir = sys::openat(
                    dir,
                    ".",
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .map_err(fail)?;
                sys::fsetxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(fail)?;
            }
            return Ok(());
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            if privileged {
                let hidden = std::ffi::OsStr::from_bytes(hidden);
                sys::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), 0).map_err(fail)?;
            }
            return Ok(());
        }

        let is_folder = sys::statat(dir, &file_name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        if kind == EntryType::Directory {
            if !is_folder {
                sys::mkdirat(dir, &file_name, Mode::from_raw_mode(0o755)).map_err(fail)?;
            }
        } else {
            match sys::unlinkat(dir, &file_name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        match kind {
            EntryType::Directory => {}
            EntryType::Symlink => sys::symlinkat(&target, dir, &file_name).map_err(fail)?,
            EntryType::Link => {
                let Some((from, name)) = hard else {
                    return Err(self.error(&shown, "it links to nothing"));
                };
                return sys::linkat(from, name, dir, &file_name, AtFlags::empty()).map_err(fail);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = match (header.device_major().map_err(bad)?, header.device_minor().map_err(bad)?)
                {
                    (Some(major), Some(minor)) => sys::makedev(major, minor),
                    _ => 0,
                };
                let node = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                sys::mknodat(dir, &file_name, node, mode, device).map_err(fail)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file: File =
                    sys::openat(dir, &file_name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?.into();
                std::io::copy(entry, &mut file).map_err(|e| self.error(&shown, &e.to_string()))?;
            }
            other => {
                return Err(self.error(&shown, &format!("entries of the kind {other:?} are not supported")));
            }
        }
        if privileged {
            sys::chownat(dir, &file_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        if kind != EntryType::Symlink {
            sys::chmodat(dir, &file_name, mode, AtFlags::empty()).map_err(fail)?;
        }
        let attributes = attributes(entry).map_err(|e| self.error(&shown, &e.to_string()))?;
        let Some((_, dir)) = &self.parent else {
            return Err(self.error(&shown, "its folder can't be opened"));
        };
        if !attributes.is_empty() && matches!(kind, EntryType::Directory | EntryType::Regular) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = sys::openat(dir, &file_name, flags, Mode::empty()).map_err(fail)?;
            for (name, value) in attributes {
                if privileged || name.starts_with("user.") {
                    sys::fsetxattr(&file, name, &value, XattrFlags::empty()).map_err(fail)?;
                }
            }
        }
        if kind == EntryType::Directory {
            self.times.push((path, times));
        } else {
            sys::utimensat(dir, &file_name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        Ok(())
    }

    /// Opens a folder of the layer, making what is missing of it, and keeps it
    /// for the next entry, which is mostly beside this one.
    fn folder(&mut self, path: &Path, shown: &str) -> Result<&OwnedFd> {
        if self.parent.as_ref().is_none_or(|(kept, _)| kept != path) {
            let opened = self.open(path, shown)?;
            self.parent = Some((path.to_owned(), opened));
        }
        match &self.parent {
            Some((_, dir)) => Ok(dir),
            None => Err(self.error(shown, "its folder can't be opened")),
        }
    }

    fn open(&self, path: &Path, shown: &str) -> Result<OwnedFd> {
        let fail = |error: rustix::io::Errno| match error {
            rustix::io::Errno::LOOP => self.error(shown, "its path goes through a symbolic link"),
            rustix::io::Errno::NOTDIR => self.error(shown, "its path goes through a file"),
            other => self.error(shown, &std::io::Error::from(other).to_string()),
        };
        let open = |path: &Path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            sys::openat2(
                &self.root,
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            )
        };
        match open(path) {
            Err(rustix::io::Errno::NOENT) => {
                let parent = self.open(path.parent().unwrap_or(Path::new("")), shown)?;
                let name = path.file_name().unwrap_or_default();
                match sys::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(fail(error)),
                }
                open(path).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }

    fn finish(mut self) -> Result<()> {
        while let Some((path, times)) = self.times.pop() {
            let shown = path.display().to_string();
            let dir = self.open(path.parent().unwrap_or(Path::new("")), &shown)?;
            let name = path.file_name().unwrap_or_default();
            sys::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).on("setting the time of", &path)?;
        }
        Ok(())
    }
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR))
                && (name == "security.capability" || name.starts_with("user."))
            {
                found.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    Ok(found)
}

/// A path of an archive made relative to its root; `None` if it leaves it.
pub fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}
