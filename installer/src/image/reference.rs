//! How an image is named: `name[:tag]`, or a digest or its beginning.

use super::{Error, Result};

/// What somebody means by the text they gave for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A full name with a tag; `latest` where none was given.
    Name(String),
    /// The beginning of a digest, in hexadecimal, at least six digits.
    Digest(String),
}

impl Reference {
    /// Reads `name[:tag]`, `sha256:<hex>` or its first digits.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why| Error::Reference { text: text.to_owned(), why };
        if let Some(hex) = text.strip_prefix("sha256:") {
            if hex.len() < 6 || hex.len() > 64 {
                return Err(wrong("a digest has 6 to 64 digits"));
            }
            if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(wrong("a digest has only the digits 0-9 and a-f"));
            }
            return Ok(Self::Digest(hex.to_owned()));
        }
        let (name, tag) = split_tag(text);
        let tag = tag.unwrap_or("latest");
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        if name.len() > 255 {
            return Err(wrong("it is longer than 255 characters"));
        }
        for (position, component) in name.split('/').enumerate() {
            if component.is_empty() {
                return Err(wrong("a component of its path is empty"));
            }
            let allowed = |b: u8| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || matches!(b, b'.' | b'_' | b'-')
                    || (position == 0 && b == b':')
            };
            if !component.bytes().all(allowed) {
                return Err(wrong("only a-z, 0-9, '.', '_', '-' and '/' can be in it"));
            }
            if !component.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                || !component.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
            {
                return Err(wrong("each component begins and ends with a letter or a digit"));
            }
        }
        if tag.is_empty() || tag.len() > 128 {
            return Err(wrong("a tag has 1 to 128 characters"));
        }
        if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(wrong("a tag has only letters, digits, '.', '_' and '-'"));
        }
        Ok(Self::Name(format!("{name}:{tag}")))
    }
}

/// Splits a name from its tag; a colon before a slash belongs to a port.
pub fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The repository of a container image in the cluster's own registry: its path
/// without the registry's host, as that registry's clients ask for it.
pub fn repository(name: &str) -> &str {
    let (name, _) = split_tag(name);
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag_and_digests_stay() {
        let name = |text: &str| Reference::parse(text).unwrap();
        assert_eq!(name("cluster"), Reference::Name("cluster:latest".into()));
        assert_eq!(name("atoll/cluster:v1.34.10"), Reference::Name("atoll/cluster:v1.34.10".into()));
        assert_eq!(
            name("registry.example:5000/a/b"),
            Reference::Name("registry.example:5000/a/b:latest".into())
        );
        assert_eq!(name("sha256:0123ab"), Reference::Digest("0123ab".into()));
    }

    #[test]
    fn bad_names_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("Cluster", "a-z"),
            ("a//b", "component"),
            ("../etc", "begins and ends"),
            ("a:", "tag"),
            ("a:b c", "tag"),
            ("sha256:12", "6 to 64"),
            ("sha256:zzzzzz", "digits"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn a_repository_has_no_host() {
        assert_eq!(repository("registry.k8s.io/pause:3.10.1"), "pause");
        assert_eq!(repository("registry.k8s.io/coredns/coredns:v1"), "coredns/coredns");
        assert_eq!(repository("docker.io/library/nginx:1.22"), "library/nginx");
        assert_eq!(repository("localhost/a"), "a");
        assert_eq!(repository("library/nginx"), "library/nginx");
    }
}
