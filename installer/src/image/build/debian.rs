//! Root filesystems from Debian packages, by mmdebstrap's extract variant: no
//! package's script runs, so what they would have done is done here.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Builder;
use super::command::run;
use super::part::{Key, Part};
use crate::image::blobs::set_mode;
use crate::image::error::Context as _;
use crate::image::{Error, Result, oci};

/// Where a tree says which packages it is made of.
const RECORD: &str = "usr/share/atoll/packages.txt";

/// Runs when everything is extracted: takes out again what is not wanted, and
/// says what stays.
const EXTRACTED: &str = r#"cd "$1"; for file in var/cache/apt/archives/*.deb; do
    name=${file##*/}
    case " $ATOLL_WITHOUT " in
        *" ${name%%_*} "*)
            dpkg-deb --fsys-tarfile "$file" | tar -t | grep -v '/$' | tr '\n' '\0' | xargs -0 -r rm -f --;;
        *) echo "package $name";;
    esac
done"#;

/// Which packages a tree is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packages {
    /// These, and all that they need,
    wanted: BTreeSet<String>,
    /// but not these, which only the packages' scripts or nobody needs.
    without: BTreeSet<String>,
}

impl Packages {
    /// Words that are packages, or with a minus before them are to be left out.
    pub fn add(&mut self, words: &str) {
        for word in words.split_whitespace() {
            match word.strip_prefix('-') {
                Some(word) => self.without.insert(word.to_owned()),
                None => self.wanted.insert(word.to_owned()),
            };
        }
    }

    /// A list of them over many lines; a hash begins a comment.
    fn parse(text: &str) -> Self {
        let mut packages = Self::default();
        for line in text.lines() {
            packages.add(line.split('#').next().unwrap_or_default());
        }
        packages
    }

    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }
}

impl Builder<'_> {
    /// The node's base: the packages that `images/node/packages` lists.
    pub(super) fn node_base(&self) -> Result<Part> {
        let path = self.images().join("node/packages");
        let text = std::fs::read_to_string(&path).on("reading", &path)?;
        self.debian("debian", "the node's root filesystem", &Packages::parse(&text))
    }

    /// A tree of packages and all that they need.
    pub(super) fn debian(&self, part: &str, name: &str, packages: &Packages) -> Result<Part> {
        let release = Release::of_this_machine()?;
        let list = packages.wanted.iter().cloned().collect::<Vec<_>>().join(",");
        let without = packages.without.iter().cloned().collect::<Vec<_>>().join(" ");
        // What the release holds today is no input: an image is made anew when
        // it is asked for, not when a package has an update.
        let key = Key::new("debian 3")
            .with("release", &release.codename)
            .with("architecture", oci::this_architecture())
            .with("packages", &list)
            .with("without", &without)
            .finish();
        self.parts.get(part, &key, |into| {
            if self.offline {
                return Err(Error::Offline { part: format!("the Debian packages of {name}") });
            }
            self.require("mmdebstrap")?;
            self.progress.step(&format!(
                "extracting {} Debian packages and what they need for {name}",
                packages.wanted.len()
            ));
            let sources = tempfile::Builder::new()
                .suffix(".list")
                .tempfile()
                .on("making", Path::new("a temporary file"))?;
            std::fs::write(sources.path(), &release.sources).on("writing", sources.path())?;
            // mmdebstrap wants to make the folder's content itself.
            let mut command = Command::new("mmdebstrap");
            command.args(["--variant=extract", "--mode=root", "--format=directory"]);
            command.arg(format!("--include={list}"));
            command.arg(format!("--extract-hook={EXTRACTED}")).env("ATOLL_WITHOUT", &without);
            for option in apt_options() {
                command.arg(format!("--aptopt={option}"));
            }
            command.arg(&release.codename).arg(into).arg(sources.path());
            let mut found = BTreeSet::new();
            run(
                &mut command,
                &format!("extracting Debian packages for {name}"),
                &self.log(&format!("{part}-packages")),
                self.progress,
                |line, state| {
                    if let Some(package) = line.strip_prefix("package ").and_then(package_of) {
                        found.insert(package);
                    } else if let Some(said) =
                        line.strip_prefix("I: ").filter(|said| !said.starts_with("running --"))
                    {
                        state.detail = format!("Debian packages for {name}: {said}");
                    }
                },
            )?;
            finish(into, &found)
        })
    }
}

/// `name version` of `name_version_arch.deb`.
fn package_of(file: &str) -> Option<String> {
    let mut parts = file.trim().strip_suffix(".deb")?.split('_');
    Some(format!("{} {}", parts.next()?, parts.next()?.replace("%3a", ":")))
}

/// The machine's own Debian release, and where its packages come from.
#[derive(Debug)]
struct Release {
    codename: String,
    sources: String,
}

impl Release {
    fn of_this_machine() -> Result<Self> {
        let path = Path::new("/etc/os-release");
        let text = std::fs::read_to_string(path).on("reading", path)?;
        let value = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix('='))
                .map(|v| v.trim_matches('"').to_owned())
        };
        let Some(codename) = value("VERSION_CODENAME").filter(|_| value("ID").as_deref() == Some("debian"))
        else {
            return Err(Error::Build {
                what: "this machine".to_owned(),
                why: "it is no Debian, and images are built from its packages; build the image on Debian 12 and carry it here with `atoll image save` and `load`".to_owned(),
            });
        };
        let mut sources = String::new();
        let folder = Path::new("/etc/apt/sources.list.d");
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = std::fs::read_dir(folder) {
            let mut more: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
            more.sort();
            files.extend(more);
        }
        for file in files {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            sources.push_str(&match file.extension().and_then(|e| e.to_str()) {
                Some("sources") => from_deb822(&text, &codename),
                Some("list") => from_list(&text, &codename),
                _ => String::new(),
            });
        }
        if sources.is_empty() {
            return Err(Error::Build {
                what: "/etc/apt".to_owned(),
                why: format!(
                    "it names no source of Debian {codename}; add one, so that `apt-get update` works"
                ),
            });
        }
        Ok(Self { codename, sources })
    }
}

/// Whether a suite is the release's own: bookworm, bookworm-security, not
/// somebody else's that is made for it.
fn is_suite(suite: &str, codename: &str) -> bool {
    let suite = suite.split('/').next().unwrap_or(suite);
    suite == codename || ["-updates", "-security"].iter().any(|end| suite.strip_suffix(end) == Some(codename))
}

/// The release's own lines of a one-line-style list.
fn from_list(text: &str, codename: &str) -> String {
    let mut lines = String::new();
    for line in text.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("deb ") else { continue };
        let rest = match rest.trim_start().strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if words.next().is_some_and(|uri| !uri.starts_with("cdrom:"))
            && words.next().is_some_and(|s| is_suite(s, codename))
        {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// The same of a deb822-style file.
fn from_deb822(text: &str, codename: &str) -> String {
    let mut lines = String::new();
    let text: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
    for stanza in text.join("\n").split("\n\n") {
        let field = |name: &str| {
            let mut lines = stanza
                .lines()
                .skip_while(|l| !l.split_once(':').is_some_and(|(n, _)| n.trim().eq_ignore_ascii_case(name)));
            let mut value = lines.next()?.split_once(':')?.1.trim().to_owned();
            for more in lines.take_while(|l| l.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(more.trim());
            }
            Some(value)
        };
        let binary = field("Types").is_some_and(|t| t.split_whitespace().any(|t| t == "deb"));
        if !binary || field("Enabled").is_some_and(|e| e.eq_ignore_ascii_case("no")) {
            continue;
        }
        let signed = field("Signed-By").filter(|s| s.starts_with('/')).map(|s| format!("[signed-by={s}] "));
        let (uris, suites) = (field("URIs").unwrap_or_default(), field("Suites").unwrap_or_default());
        for uri in uris.split_whitespace() {
            for suite in suites.split_whitespace().filter(|s| is_suite(s, codename)) {
                lines.push_str(&format!(
                    "deb {}{uri} {suite} {}\n",
                    signed.as_deref().unwrap_or_default(),
                    field("Components").unwrap_or_default()
                ));
            }
        }
    }
    lines
}

/// The machine's own proxies, which mmdebstrap's apt doesn't know of.
fn apt_options() -> Vec<String> {
    let Ok(output) = Command::new("apt-config").arg("dump").output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| {
            let name = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
            name.starts_with("acquire::http") && name.contains("proxy") && !line.ends_with("\"\";")
        })
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}

/// Does what the packages' scripts would have done, and leaves out what an image
/// doesn't need.
fn finish(root: &Path, packages: &BTreeSet<String>) -> Result<()> {
    for (from, to, mode) in [
        ("usr/share/base-passwd/passwd.master", "etc/passwd", 0o644),
        ("usr/share/base-passwd/group.master", "etc/group", 0o644),
        ("usr/share/base-files/nsswitch.conf", "etc/nsswitch.conf", 0o644),
        ("usr/share/base-files/profile", "etc/profile", 0o644),
        ("usr/share/base-files/dot.profile", "root/.profile", 0o644),
        ("usr/share/base-files/dot.bashrc", "root/.bashrc", 0o644),
    ] {
        let (from, to) = (root.join(from), root.join(to));
        if from.is_file() && !to.exists() {
            std::fs::copy(&from, &to).on("writing", &to)?;
            set_mode(&to, mode)?;
        }
    }
    let passwd = root.join("etc/passwd");
    if let Ok(users) = std::fs::read_to_string(&passwd) {
        let locked: String = users
            .lines()
            .filter_map(|l| l.split(':').next())
            .map(|user| format!("{user}:*:19000:0:99999:7:::\n"))
            .collect();
        let shadow = root.join("etc/shadow");
        std::fs::write(&shadow, locked).on("writing", &shadow)?;
        set_mode(&shadow, 0o640)?;
        std::os::unix::fs::chown(&shadow, Some(0), Some(42)).on("setting the owner of", &shadow)?;
    }

    for family in ["iptables", "ip6tables"] {
        for end in ["", "-save", "-restore"] {
            link(root, "usr/sbin/xtables-nft-multi", &format!("usr/sbin/{family}{end}"))?;
        }
    }
    link(root, "usr/bin/gawk", "usr/bin/awk")?;
    link(root, "usr/bin/mawk", "usr/bin/awk")?;
    link(root, "bin/dash", "bin/sh")?;
    for (to, at) in [("/run", "var/run"), ("/run/lock", "var/lock")] {
        let at = root.join(at);
        if at.is_dir() && !at.is_symlink() {
            // What is below /run is made by whoever needs it.
            std::fs::remove_dir_all(&at).on("removing", &at)?;
        }
        if root.join("var").is_dir() && at.symlink_metadata().is_err() {
            symlink(to, &at).on("making", &at)?;
        }
    }
    certificates(root)?;
    busybox(root)?;

    // The machine's own settings don't belong into an image, nor what nobody reads there.
    for path in [
        "etc/resolv.conf",
        "etc/hostname",
        "etc/apt",
        "var/cache",
        "var/lib/apt",
        "var/lib/dpkg",
        "var/log/apt",
        "dev",
        "usr/share/man",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/lintian",
        "usr/share/bash-completion",
        "usr/share/zsh",
        "usr/share/bug",
    ] {
        remove(&root.join(path))?;
    }
    for path in ["dev", "var/cache", "var/lib"] {
        let dir = root.join(path);
        std::fs::create_dir_all(&dir).on("making", &dir)?;
    }
    only_copyrights(&root.join("usr/share/doc"))?;

    let record = root.join(RECORD);
    if let Some(dir) = record.parent() {
        std::fs::create_dir_all(dir).on("making", dir)?;
    }
    let text: String = packages.iter().map(|p| format!("{p}\n")).collect();
    std::fs::write(&record, text).on("writing", &record)
}

/// Makes a link to a program if that is there and the name is free.
fn link(root: &Path, program: &str, name: &str) -> Result<()> {
    let (target, at) = (root.join(program), root.join(name));
    if target.is_file() && at.symlink_metadata().is_err() {
        symlink(target.file_name().unwrap_or_default(), &at).on("making", &at)?;
    }
    Ok(())
}

fn certificates(root: &Path) -> Result<()> {
    let dir = root.join("usr/share/ca-certificates/mozilla");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        return Ok(());
    };
    let mut files: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.sort();
    let mut bundle = String::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "crt")) {
        bundle.push_str(std::fs::read_to_string(file).on("reading", file)?.trim_end());
        bundle.push('\n');
    }
    let certs = root.join("etc/ssl/certs");
    std::fs::create_dir_all(&certs).on("making", &certs)?;
    let path = certs.join("ca-certificates.crt");
    std::fs::write(&path, bundle).on("writing", &path)
}

/// Gives busybox its other names, unless something real has them.
fn busybox(root: &Path) -> Result<()> {
    let busybox = root.join("bin/busybox");
    if !busybox.is_file() {
        return Ok(());
    }
    let output = Command::new(&busybox).arg("--list").output().on("running", &busybox)?;
    for name in String::from_utf8_lossy(&output.stdout).lines().filter(|n| *n != "busybox" && !n.is_empty()) {
        let taken = ["bin", "sbin", "usr/bin", "usr/sbin"]
            .iter()
            .any(|dir| root.join(dir).join(name).symlink_metadata().is_ok());
        if !taken {
            let at = root.join("bin").join(name);
            symlink("busybox", &at).on("making", &at)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).on("removing", path),
        Ok(_) => std::fs::remove_file(path).on("removing", path),
    }
}

/// Of the documentation only the licences stay.
fn only_copyrights(doc: &Path) -> Result<()> {
    let Ok(packages) = std::fs::read_dir(doc) else {
        return Ok(());
    };
    for package in packages {
        let package = package.on("reading", doc)?;
        if !package.file_type().on("reading", &package.path())?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(package.path()).on("reading", &package.path())? {
            let file = file.on("reading", &package.path())?;
            if file.file_name() != "copyright" {
                remove(&file.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_releases_own_sources_are_taken() {
        let list = "deb http://mirror.test/debian bookworm main\n# deb http://x bookworm main\n\
            deb [arch=amd64 signed-by=/k] http://mirror.test/security bookworm-security main contrib\n\
            deb http://other.test/apt some-bookworm main\ndeb-src http://mirror.test/debian bookworm main\n\
            deb cdrom:[x] bookworm main\n";
        assert_eq!(from_list(list, "bookworm").lines().count(), 2);
        let deb822 = "# comment\nTypes: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\n bookworm-updates\n\
            Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n\nTypes: deb\nURIs: http://other.test\n\
            Suites: nodistro\nComponents: main\n\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nEnabled: no\n";
        assert_eq!(
            from_deb822(deb822, "bookworm"),
            "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.test/debian bookworm main\n\
             deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.test/debian bookworm-updates main\n"
        );
    }

    #[test]
    fn package_files_and_lists_are_read() {
        assert_eq!(
            package_of("busybox-static_1%3a1.35.0-4+deb12u1+b1_amd64.deb").as_deref(),
            Some("busybox-static 1:1.35.0-4+deb12u1+b1")
        );
        assert_eq!(package_of("*.deb"), None);
        let list = Packages::parse("# the base\nbash dash # shells\n\ncurl -perl\n");
        assert_eq!(list.wanted.into_iter().collect::<Vec<_>>(), ["bash", "curl", "dash"]);
        assert_eq!(list.without.into_iter().collect::<Vec<_>>(), ["perl"]);
    }
}
