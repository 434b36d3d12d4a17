//! Cluster images from end to end, small ones made here: nothing is fetched and
//! nothing but the test's own folder is touched.

#![allow(clippy::unwrap_used, reason = "what a test prepares may fail by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use installer::image::oci::{self, Config, Descriptor, Digest, Index, Manifest, RootFs, Settings};
use installer::image::{BuildOptions, Error, Image, Store, build, container_images, fill_registry, layer};
use installer::progress::Quiet;
use tar::EntryType;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("context/node/etc/hello", "hello");
        place.write("context/Kubefile", &kubefile("COPY node /node/"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn store(&self) -> Store {
        Store::open(self.path("cache")).unwrap()
    }

    fn try_build(&self, name: &str) -> Result<Image, Error> {
        let options = BuildOptions {
            kubefile: Some(self.path("context/Kubefile")),
            name: name.to_owned(),
            cache: self.path("cache"),
            offline: true,
            ..BuildOptions::new(self.path("no-checkout"))
        };
        build(&options, &Quiet)
    }

    fn build(&self, name: &str) -> Image {
        self.try_build(name).unwrap()
    }

    /// Every file of the store, to see that an error changed nothing.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                }
                files.push(path);
            }
        }
        let mut files = Vec::new();
        walk(&self.path("cache/images"), &mut files);
        files.sort();
        files
    }
}

fn kubefile(rest: &str) -> String {
    format!(
        "FROM scratch\nARG TARGETARCH\nLABEL dev.atoll.image=cluster dev.atoll.format=1 \
         dev.atoll.arch=$TARGETARCH dev.atoll.kubernetes.version=v1.34.10\n{rest}\n"
    )
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn describe(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64)
}

/// Adds an entry as it is: the tar crate refuses to write what bad archives have.
fn raw_entry(
    tar: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    kind: EntryType,
    link: &str,
    bytes: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

/// An archive as `save` would write it, but with what the test wants in it.
fn archive(path: &Path, labels: &[(&str, &str)], architecture: &str, extra: &[(&str, EntryType)]) {
    let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let config = Config {
        created: None,
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        config: Settings { env: None, labels: Some(labels) },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![Digest::of(&layer)] },
    };
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::MANIFEST.to_owned()),
        config: describe(oci::CONFIG, &config),
        layers: vec![describe(oci::LAYER, &layer)],
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut index = Index::default();
    index.put("test:1", describe(oci::MANIFEST, &manifest));
    let index = serde_json::to_vec(&index).unwrap();

    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, kind) in extra {
        let link = if *kind == EntryType::Symlink { "/etc" } else { "" };
        raw_entry(&mut tar, name, *kind, link, b"");
    }
    raw_entry(&mut tar, "oci-layout", EntryType::Regular, "", oci::LAYOUT.as_bytes());
    raw_entry(&mut tar, "index.json", EntryType::Regular, "", &index);
    for blob in [&layer, &config, &manifest] {
        let name = format!("blobs/sha256/{}", Digest::of(blob).hex());
        raw_entry(&mut tar, &name, EntryType::Regular, "", blob);
    }
    tar.finish().unwrap();
}

fn labels_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut labels = BTreeMap::from([
        ("dev.atoll.image", "cluster"),
        ("dev.atoll.format", "1"),
        ("dev.atoll.arch", oci::this_architecture()),
    ]);
    labels.insert(name, value);
    labels.into_iter().collect()
}

#[test]
fn the_same_content_is_the_same_image() {
    let place = Place::new();
    let first = place.build("test:1");
    let file = place.write("context/node/etc/hello", "changed");
    let changed = place.build("test:2");
    std::fs::write(file, "hello").unwrap();
    let again = place.build("test:3");
    assert_eq!(first.digest, again.digest);
    assert_ne!(first.digest, changed.digest);
    assert_eq!(first.labels["dev.atoll.kubernetes.version"], "v1.34.10");
    let names: Vec<_> = place.store().list().unwrap().into_iter().map(|i| i.reference).collect();
    assert_eq!(names, ["test:1", "test:2", "test:3"]);
    assert_eq!(place.store().find(&first.digest.to_string()).unwrap().digest, first.digest);
    let error = place.store().find("nope").unwrap_err().to_string();
    assert!(error.contains("nope") && error.contains("atoll image list"), "{error}");
}

#[test]
fn unpacking_keeps_modes_and_links() {
    let place = Place::new();
    let node = place.path("context/node");
    let tool = place.write("context/node/bin/tool", "tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::hard_link(&tool, node.join("bin/other")).unwrap();
    symlink("tool", node.join("bin/link")).unwrap();
    symlink("/outside", node.join("dangling")).unwrap();
    let long = "x".repeat(120);
    place.write(&format!("context/node/{long}/{long}"), "long");
    let image = place.build("test");
    let folders = place.store().unpacked(&image).unwrap();
    let unpacked = folders[0].join("node");
    let meta = |name: &str| unpacked.join(name).symlink_metadata().unwrap();
    assert_eq!(meta("bin/tool").mode() & 0o7777, 0o4755);
    assert_eq!(meta("bin/tool").ino(), meta("bin/other").ino());
    assert_eq!(std::fs::read_link(unpacked.join("bin/link")).unwrap(), Path::new("tool"));
    assert_eq!(std::fs::read_link(unpacked.join("dangling")).unwrap(), Path::new("/outside"));
    assert_eq!(std::fs::read_to_string(unpacked.join(&long).join(&long)).unwrap(), "long");
    assert_eq!(place.store().unpacked(&image).unwrap(), folders);
}

#[test]
fn an_image_is_extended_from_the_store() {
    let place = Place::new();
    let base = place.build("base:1");
    place.write("context/extra.yaml", "kind: ConfigMap");
    place.write("context/Kubefile", "FROM base:1\nLABEL mine=yes\nCOPY extra.yaml /manifests/\n");
    let image = place.build("mine");
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[0], base.layers[0]);
    assert_eq!(image.labels["mine"], "yes");
    let folders = place.store().unpacked(&image).unwrap();
    assert!(folders[1].join("manifests/extra.yaml").is_file());
}

#[test]
fn a_kubefile_that_makes_no_cluster_image_is_refused() {
    let place = Place::new();
    symlink("/etc", place.path("context/out")).unwrap();
    for (text, why) in [
        ("FROM scratch\nCOPY node /node/", "LABEL dev.atoll.image=cluster"),
        ("FROM nowhere:1\n", "nowhere:1"),
        (&kubefile("COPY missing /node/"), "missing: No such file"),
        (&kubefile("COPY --from=nothing . /node/"), "no part \"nothing\""),
        (&kubefile("RUN true"), "RUN means nothing"),
        (&kubefile("COPY out /node/"), "leads out"),
    ] {
        place.write("context/Kubefile", text);
        let error = place.try_build("test").unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(place.store().list().unwrap().is_empty());
    }
}

#[test]
fn an_image_travels_as_a_file() {
    let place = Place::new();
    let image = place.build("test:1");
    let file = place.path("image.tar");
    place.store().save("test:1", &file).unwrap();
    let other = Place::new();
    let loaded = other.store().load(&file).unwrap();
    assert_eq!(loaded.digest, image.digest);
    assert_eq!(loaded.reference, "test:1");
    assert_eq!(loaded.labels, image.labels);
    let folders = other.store().unpacked(&loaded).unwrap();
    assert_eq!(std::fs::read_to_string(folders[0].join("node/etc/hello")).unwrap(), "hello");
    other.store().load(&file).unwrap();
    let again = other.path("again.tar");
    other.store().save("test:1", &again).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&again).unwrap());
}

/// Loads a bad file and checks that the message is one line that names the file
/// and `why`, and that the store is as before.
fn check_refused(make: impl FnOnce(&Path), why: &str) {
    let place = Place::new();
    let store = place.store();
    let file = place.path("bad-image.tar");
    make(&file);
    let before = place.files();
    let error = store.load(&file).unwrap_err().to_string();
    assert!(error.contains("bad-image.tar"), "{error}");
    assert!(error.contains(why), "expected {why:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(place.files(), before, "{error}");
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn what_is_no_archive_is_refused() {
    check_refused(|_| {}, "No such file");
    check_refused(|file| std::fs::create_dir(file).unwrap(), "it is no file");
    let write = |bytes: &[u8], why| check_refused(|file| std::fs::write(file, bytes).unwrap(), why);
    write(b"", "it is empty");
    write("no tar\n".repeat(500).as_bytes(), "no tar archive");
    write(&[0x1f, 0x8b, 8, 0, 0, 0], "gunzip");
    write(&[0x28, 0xb5, 0x2f, 0xfd, 0], "zstd -d");
    let mut other = tar::Builder::new(Vec::new());
    raw_entry(&mut other, "readme.txt", EntryType::Regular, "", b"read me");
    write(&other.into_inner().unwrap(), "no oci-layout");
}

#[test]
fn a_cut_or_damaged_archive_is_refused() {
    let source = Place::new();
    source.write("context/node/big", &"content ".repeat(5000));
    source.build("test:1");
    let whole = source.path("whole.tar");
    source.store().save("test:1", &whole).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    for cut in [bytes.len() / 4, bytes.len() / 2, bytes.len() - 3000] {
        check_refused(|file| std::fs::write(file, &bytes[..cut]).unwrap(), "copy it again");
    }
    // In the layer's content, and in the header of an entry.
    let content = bytes.windows(16).position(|w| w == b"content content ").unwrap();
    let header = bytes.windows(13).rposition(|w| w == b"blobs/sha256/").unwrap();
    for at in [content + 100, header + 150] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        check_refused(|file| std::fs::write(file, &bad).unwrap(), "is damaged");
    }
}

#[test]
fn an_image_for_something_else_is_refused() {
    let here = oci::this_architecture();
    check_refused(|file| archive(file, &[], here, &[]), "not a cluster image");
    check_refused(
        |file| archive(file, &labels_with("dev.atoll.format", "99"), here, &[]),
        "use a newer atoll",
    );
    check_refused(|file| archive(file, &labels_with("dev.atoll.format", "x"), here, &[]), "build it again");
    check_refused(
        |file| archive(file, &labels_with("dev.atoll.arch", "s390x"), "s390x", &[]),
        "is for s390x",
    );
    check_refused(|file| archive(file, &labels_with("a", "b"), "s390x", &[]), "is for s390x");
    let place = Place::new();
    archive(&place.path("good.tar"), &labels_with("a", "b"), here, &[]);
    place.store().load(&place.path("good.tar")).unwrap();
}

#[test]
fn an_archive_that_reaches_outside_is_refused() {
    for extra in [
        ("../evil", EntryType::Regular),
        ("/evil", EntryType::Regular),
        ("blobs/../../evil", EntryType::Regular),
        ("blobs/sha256", EntryType::Symlink),
        ("device", EntryType::Char),
    ] {
        let make = |file: &Path| archive(file, &labels_with("a", "b"), oci::this_architecture(), &[extra]);
        check_refused(make, "leaves its place");
    }
}

#[test]
fn a_layer_that_reaches_outside_is_refused() {
    use EntryType::{Link, Regular, Symlink};
    for (entries, why) in [
        (vec![("../evil", Regular, "")], "leaves its place"),
        (vec![("a/../../evil", Regular, "")], "leaves its place"),
        (vec![("out", Symlink, "/tmp"), ("out/evil", Regular, "")], "symbolic link"),
        (vec![("evil", Link, "../../../etc/passwd")], "leaves its place"),
        (vec![("out", Symlink, "/etc"), ("evil", Link, "out/passwd")], "symbolic link"),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, link) in &entries {
            raw_entry(&mut tar, name, *kind, link, b"");
        }
        let bytes = tar.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        let error = layer::unpack(bytes.as_slice(), &into, "sha256:x").unwrap_err().to_string();
        assert!(error.contains(why), "{entries:?}: {error}");
        assert!(!dir.path().join("evil").exists());
    }
    assert!(!Path::new("/tmp/evil").exists());
}

#[test]
fn a_damaged_store_is_noticed() {
    let place = Place::new();
    let image = place.build("test:1");
    let blob = place.path("cache/images/blobs/sha256").join(image.layers[0].digest.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    let at = bytes.windows(5).rposition(|w| w == b"hello").unwrap();
    bytes[at] = b'j';
    std::fs::write(&blob, bytes).unwrap();
    let error = place.store().unpacked(&image).unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("atoll image remove"), "{error}");
    let file = place.path("image.tar");
    assert!(place.store().save("test:1", &file).is_err());
    assert!(!file.exists());
    place.store().remove("test:1").unwrap();
    assert!(!blob.exists());
    let again = place.build("test:1");
    place.store().unpacked(&again).unwrap();
}

#[test]
fn what_a_cluster_uses_stays() {
    let place = Place::new();
    let used = place.build("used");
    place.write("context/node/etc/hello", "other");
    let unused = place.build("unused");
    let store = place.store();
    store.hold(&used, "local").unwrap();
    let error = store.remove("used").unwrap_err().to_string();
    assert!(error.contains("the cluster local"), "{error}");
    let folders = store.unpacked(&used).unwrap();
    store.unpacked(&unused).unwrap();
    let evicted = store.evict(0, &[]).unwrap();
    assert!(evicted.after < evicted.before);
    assert!(folders[0].is_dir());
    assert!(store.find("used").is_ok());
    assert!(store.find("unused").is_err());
    store.release("local").unwrap();
    store.remove("used").unwrap();
    assert!(!folders[0].exists());
    assert!(store.hold(&used, "../evil").is_err());
}

#[test]
fn devices_whiteouts_owners_and_capabilities_survive() {
    use rustix::fs::{CWD, FileType, XattrFlags, getxattr, makedev, mknodat, setxattr};
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, into) = (dir.path().join("from"), dir.path().join("into"));
    std::fs::create_dir_all(&from).unwrap();
    std::fs::create_dir_all(&into).unwrap();
    std::fs::write(from.join(".wh.hidden"), "").unwrap();
    std::fs::write(from.join("tool"), "x").unwrap();
    std::os::unix::fs::chown(from.join("tool"), Some(12), Some(34)).unwrap();
    // cap_net_raw=ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    setxattr(from.join("tool"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    let device = makedev(1, 3);
    mknodat(CWD, from.join("null"), FileType::CharacterDevice, 0o666.into(), device).unwrap();

    let source = layer::Source { path: from, dest: "node".into(), owner: layer::Owner::Keep };
    let bytes = layer::pack(&[source], Vec::new()).unwrap();
    layer::unpack(bytes.as_slice(), &into, "test").unwrap();
    let meta = |name: &str| into.join("node").join(name).symlink_metadata().unwrap();
    assert_eq!(meta("null").rdev(), device);
    assert_eq!(meta("hidden").rdev(), 0);
    assert_eq!((meta("tool").uid(), meta("tool").gid()), (12, 34));
    let mut value = [0_u8; 64];
    let length = getxattr(into.join("node/tool"), "security.capability", value.as_mut_slice()).unwrap();
    assert_eq!(value[..length], capability);
}

/// A layer's folder with one small container image of two names.
fn container_layer(place: &Place) -> PathBuf {
    let put = |bytes: &[u8]| {
        let path = place.write(&format!("layer/images/test/blobs/sha256/{}", Digest::of(bytes).hex()), "");
        std::fs::write(path, bytes).unwrap();
    };
    let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let config = Config {
        created: None,
        architecture: oci::this_architecture().to_owned(),
        os: "linux".to_owned(),
        config: Settings::default(),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![Digest::of(&layer)] },
    };
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::MANIFEST.to_owned()),
        config: describe(oci::CONFIG, &config),
        layers: vec![describe(oci::LAYER, &layer)],
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut index = Index::default();
    for name in ["registry.k8s.io/coredns/coredns:v1", "docker.io/library/nginx:1.22"] {
        index.put(name, describe(oci::MANIFEST, &manifest));
    }
    put(&layer);
    put(&config);
    put(&manifest);
    place.write("layer/images/test/index.json", &serde_json::to_string(&index).unwrap());
    place.path("layer")
}

/// A registry that ends with the test.
struct Registry(std::process::Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_registry_serves_what_was_filled_in() {
    use std::io::{Read as _, Write as _};
    let place = Place::new();
    let layers = [container_layer(&place)];
    assert_eq!(container_images(&layers).unwrap().len(), 2);
    let storage = place.path("registry");
    let names = fill_registry(&layers, &storage).unwrap();
    assert_eq!(names, ["docker.io/library/nginx:1.22", "registry.k8s.io/coredns/coredns:v1"]);
    assert_eq!(fill_registry(&layers, &storage).unwrap(), names);

    // Debian's registry itself, where it is installed.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    let config = place.write("registry.yml", &config);
    let mut command = std::process::Command::new("docker-registry");
    command.arg("serve").arg(config).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let Ok(child) = command.spawn() else {
        return;
    };
    let _registry = Registry(child);
    let get = |path: &str| -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nAccept: {}\r\n\r\n", oci::MANIFEST)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    for _ in 0..200 {
        if get("/v2/").is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let catalog = get("/v2/_catalog").unwrap();
    assert!(catalog.contains(r#"["coredns/coredns","library/nginx"]"#), "{catalog}");
    let manifest = get("/v2/coredns/coredns/manifests/v1").unwrap();
    assert!(manifest.contains("200 OK") && manifest.contains(oci::CONFIG), "{manifest}");
    let tags = get("/v2/library/nginx/tags/list").unwrap();
    assert!(tags.contains(r#""tags":["1.22"]"#), "{tags}");
}
