//! The events of a watch, one line of JSON each, looked into only as far as
//! needed: whose they are and which resource version they bring.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

/// No event is longer: objects are at most a few MiB.
const MOST: usize = 16 << 20;

/// Puts lines together from pieces of any length.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: BytesMut,
    /// Where no newline was found yet.
    searched: usize,
}

/// A line that doesn't end.
#[derive(Debug, thiserror::Error)]
#[error("an event of the API server is longer than {MOST} bytes")]
pub struct TooLong;

impl Lines {
    /// Adds what came.
    ///
    /// # Errors
    /// When a line is longer than any event is.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() > MOST { Err(TooLong) } else { Ok(()) }
    }
}

impl Iterator for Lines {
    type Item = Bytes;

    /// The next whole line, its newline included; None: none is whole yet.
    fn next(&mut self) -> Option<Bytes> {
        match self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n') {
            Some(offset) => {
                let line = self.buffer.split_to(self.searched + offset + 1);
                self.searched = 0;
                Some(line.freeze())
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

/// What is read of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The names of the objects; a table has one in each row. None: one can't
    /// be read.
    pub names: Option<Vec<String>>,
    /// The resource version.
    pub version: Option<u64>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    rows: Option<Vec<Row>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "resourceVersion")]
    version: String,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    object: Option<RowObject>,
}

#[derive(Deserialize)]
struct RowObject {
    #[serde(default)]
    metadata: Metadata,
}

impl Event {
    /// Reads a line; None: it is no event.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let Raw { kind, object } = serde_json::from_slice(line).ok()?;
        let mut version = object.metadata.version.parse().ok();
        let names = if object.kind == "Table" {
            let rows = object.rows.unwrap_or_default();
            let read = |row: &Row| row.object.as_ref().map(|object| object.metadata.name.clone());
            version = version.or_else(|| rows.first()?.object.as_ref()?.metadata.version.parse().ok());
            rows.iter().map(read).collect::<Option<Vec<_>>>()
        } else {
            Some(vec![object.metadata.name])
        };
        let names = names.filter(|names| names.iter().all(|name| !name.is_empty()));
        Some(Self { kind, names, version })
    }
}

/// An object that a list has given, as the object of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub version: u64,
    object: Value,
}

impl Listed {
    /// The first object of a list in any JSON form: of objects, of their
    /// metadata, or a table. None: it is empty or can't be read.
    pub fn first(list: &[u8]) -> Option<Self> {
        let mut list: Value = serde_json::from_slice(list).ok()?;
        let kind = list.get("kind")?.as_str()?.to_owned();
        if kind == "Table" {
            let metadata = list.get("rows")?.get(0)?.get("object")?.get("metadata")?.clone();
            let version = metadata.get("resourceVersion")?.as_str()?.to_owned();
            let name = metadata.get("name")?.as_str()?.to_owned();
            list.get_mut("rows")?.as_array_mut()?.truncate(1);
            *list.get_mut("metadata")? = json!({ "resourceVersion": version });
            return Some(Self { name, version: version.parse().ok()?, object: list });
        }
        let mut object = list.get_mut("items")?.get_mut(0)?.take();
        let metadata = object.get("metadata")?;
        let name = metadata.get("name")?.as_str()?.to_owned();
        let version = metadata.get("resourceVersion")?.as_str()?.parse().ok()?;
        // Items of a list don't say what they are.
        let fields = object.as_object_mut()?;
        fields.entry("kind").or_insert_with(|| kind.strip_suffix("List").unwrap_or(&kind).into());
        fields.entry("apiVersion").or_insert(list.get("apiVersion")?.clone());
        Some(Self { name, version, object })
    }

    /// It has come into view.
    pub fn added(&self) -> Bytes {
        line("ADDED", &self.object)
    }

    /// It is out of view, as of `version`.
    pub fn deleted(mut self, version: u64) -> Bytes {
        let version = Value::from(version.max(self.version).to_string());
        let mut set = |pointer: &str| {
            if let Some(place) = self.object.pointer_mut(pointer) {
                *place = version.clone();
            }
        };
        set("/metadata/resourceVersion");
        set("/rows/0/object/metadata/resourceVersion");
        line("DELETED", &self.object)
    }
}

/// The event by which a client learns to list again.
pub fn expired() -> Bytes {
    line("ERROR", &crate::refusal::Refusal::Expired.status())
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": kind, "object": object })).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in ["{\"a\"", ":1}", "\n{\"b\":2}\n{", "}", "\n"] {
            lines.push(piece.as_bytes()).unwrap();
            got.extend(lines.by_ref());
        }
        assert_eq!(got, ["{\"a\":1}\n", "{\"b\":2}\n", "{}\n"]);
        assert!(lines.next().is_none());
        assert!(lines.push(&vec![b'x'; MOST + 1]).is_err());
    }

    #[test]
    fn events_of_all_forms_are_read() {
        let check = |line: Value, kind: &str, names: Option<&[&str]>, version: Option<u64>| {
            let event = Event::parse(line.to_string().as_bytes()).unwrap();
            let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(event, Event { kind: kind.to_owned(), names, version }, "{line}");
        };
        check(
            json!({"type": "ADDED", "object": {"kind": "Namespace", "metadata": {"name": "a", "resourceVersion": "5"}}}),
            "ADDED",
            Some(&["a"]),
            Some(5),
        );
        check(
            json!({"type": "BOOKMARK", "object": {"kind": "Namespace", "metadata": {"resourceVersion": "7"}}}),
            "BOOKMARK",
            None,
            Some(7),
        );
        check(
            json!({"type": "MODIFIED", "object": {"kind": "Table", "metadata": {}, "rows": [
                {"cells": [], "object": {"metadata": {"name": "a", "resourceVersion": "6"}}}]}}),
            "MODIFIED",
            Some(&["a"]),
            Some(6),
        );
        check(
            json!({"type": "ADDED", "object": {"kind": "Table", "metadata": {"resourceVersion": "9"}, "rows": [
                {"cells": [], "object": {"metadata": {"name": "a"}}}, {"cells": []}]}}),
            "ADDED",
            None,
            Some(9),
        );
        check(json!({"type": "ERROR", "object": {"kind": "Status", "code": 410}}), "ERROR", None, None);
        assert_eq!(Event::parse(b"no json"), None);
    }

    #[test]
    fn what_a_list_gave_becomes_an_event() {
        let list = json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {"resourceVersion": "90"},
            "items": [{"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {}}]});
        let first = Listed::first(list.to_string().as_bytes()).unwrap();
        let added: Value = serde_json::from_slice(&first.added()).unwrap();
        assert_eq!(
            added,
            json!({"type": "ADDED", "object": {"kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": "a", "resourceVersion": "5"}, "spec": {}}})
        );
        let deleted: Value = serde_json::from_slice(&first.deleted(60)).unwrap();
        assert_eq!(deleted["type"], "DELETED");
        assert_eq!(deleted["object"]["metadata"]["resourceVersion"], "60");

        let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "90"},
            "columnDefinitions": [{"name": "Name"}],
            "rows": [{"cells": ["a"], "object": {"metadata": {"name": "a", "resourceVersion": "5"}}}]});
        let first = Listed::first(table.to_string().as_bytes()).unwrap();
        assert_eq!((first.name.as_str(), first.version), ("a", 5));
        let event = Event::parse(&first.deleted(60)).unwrap();
        assert_eq!(event, Event { kind: "DELETED".into(), names: Some(vec!["a".into()]), version: Some(60) });

        for empty in [
            json!({"kind": "NamespaceList", "apiVersion": "v1", "items": []}),
            json!({"kind": "Table", "rows": []}),
            json!({"kind": "Status"}),
            json!([]),
        ] {
            assert_eq!(Listed::first(empty.to_string().as_bytes()), None, "{empty}");
        }
    }
}
