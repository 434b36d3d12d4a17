//! The few documents of an OCI image that a cluster image needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A manifest's media type.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index's media type.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A configuration's media type.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer's media type: not compressed, because it is unpacked more often than sent.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The annotation with an image's name in an OCI layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with an image's full name that containerd reads.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation with the time at which an image came into a layout.
pub const CREATED: &str = "org.opencontainers.image.created";
/// What the file `oci-layout` says.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The SHA-256 of some content: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Takes the bare hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let valid = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Self(format!("sha256:{hex}")))
    }

    /// From the hash itself.
    pub fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::from("sha256:");
        for byte in hash {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_hash(&sha2::Sha256::digest(bytes))
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// Enough of it for people and for tags.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or_else(|| format!("{text:?} is not a sha256 digest"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Points at a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its content's digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What else is said of it here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Without annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new() }
    }

    /// The image's full name, where the layout gives one.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(CONTAINERD_NAME).or_else(|| self.annotations.get(REF_NAME)).map(String::as_str)
    }
}

/// The images of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX`], where it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// One for each name.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

impl Default for Index {
    fn default() -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests: Vec::new() }
    }
}

impl Index {
    /// Gives a name to a manifest, and takes it from whichever had it.
    pub fn put(&mut self, name: &str, mut manifest: Descriptor) {
        self.manifests.retain(|m| m.name() != Some(name));
        manifest.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        manifest.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_owned());
        self.manifests.push(manifest);
        self.manifests.sort_by(|a, b| a.name().cmp(&b.name()));
    }

    /// The manifest with this name.
    pub fn named(&self, name: &str) -> Option<&Descriptor> {
        self.manifests.iter().find(|m| m.name() == Some(name))
    }
}

/// One image: its configuration and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST`], where it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its configuration.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
}

/// An image's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Always the epoch, so that the same content has the same digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Go's name of the processor: amd64, arm64.
    #[serde(default)]
    pub architecture: String,
    /// Always linux.
    #[serde(default)]
    pub os: String,
    /// Labels and environment.
    #[serde(default)]
    pub config: Settings,
    /// The layers' digests.
    pub rootfs: RootFs,
}

/// What a configuration says of running, of which a cluster image has little.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `NAME=value`.
    #[serde(rename = "Env", default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What the Kubefile's LABEL says.
    #[serde(rename = "Labels", default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The layers' digests, before any compression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always "layers".
    #[serde(rename = "type")]
    pub kind: String,
    /// Lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Go's, and so OCI's, name of this machine's processor.
pub fn this_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_moves_to_the_newest_manifest() {
        let mut index = Index::default();
        let manifest = |byte: u8| Descriptor::new(MANIFEST, Digest::of(&[byte]), 1);
        index.put("b:1", manifest(1));
        index.put("a:1", manifest(2));
        index.put("b:1", manifest(3));
        let names: Vec<_> = index.manifests.iter().map(|m| m.name().unwrap_or("-")).collect();
        assert_eq!(names, ["a:1", "b:1"]);
        assert_eq!(index.named("b:1").unwrap().digest, Digest::of(&[3]));
        let text = serde_json::to_string(&index).unwrap();
        assert!(text.contains(r#""io.containerd.image.name":"b:1""#), "{text}");
        assert!(text.contains(r#""org.opencontainers.image.ref.name":"b:1""#), "{text}");
    }

    #[test]
    fn digests_are_checked_when_read() {
        let text = "a".repeat(64);
        assert!(serde_json::from_str::<Digest>(&format!("\"sha256:{text}\"")).is_ok());
        for bad in ["\"sha256:../../x\"", "\"sha512:aa\"", "\"\""] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
    }
}
