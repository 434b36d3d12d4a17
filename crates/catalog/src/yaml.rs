//! YAML as a tree that still knows how each scalar was written.
//!
//! The parser is saphyr-parser's stream of events: it tells a plain scalar from
//! a quoted one, which the serde front ends don't, and substitution depends on
//! it. It is written without unsafe code and keeps a stack of its own instead
//! of recursing; what it doesn't bound (nodes, aliases, depth) is bounded here.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::error::Error;
use crate::limits;

/// A YAML node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its line in the source.
    pub(crate) line: usize,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// A scalar's text, and whether that text decides its type: it was written
    /// without quotes, or under a tag that asks for a type.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The value of a mapping's key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name.scalar() == Some(key)).map(|(_, value)| value)
    }

    /// A mapping's entries; none for other nodes.
    pub(crate) fn entries(&self) -> &[(Self, Self)] {
        match &self.data {
            Data::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// A scalar's text.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    pub(crate) fn is_null(&self) -> bool {
        match &self.data {
            Data::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

/// The documents of a stream, empty ones left out. `lines` gives each line's
/// number in the source.
pub(crate) fn parse(text: &str, lines: &[usize]) -> Result<Vec<Node>, Error> {
    let mut builder = Builder { lines, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = builder.line(error.marker().line());
            Error::Yaml { line, problem: error.info().to_owned() }
        })?;
        builder.accept(event, span.start.line())?;
    }
    Ok(builder.documents)
}

#[derive(Default)]
struct Builder<'a> {
    lines: &'a [usize],
    documents: Vec<Node>,
    started: usize,
    open: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

/// A mapping or sequence that isn't finished.
struct Frame {
    node: Node,
    anchor: usize,
    key: Option<Node>,
}

impl Builder<'_> {
    fn line(&self, line: usize) -> usize {
        let last = self.lines.last().copied().unwrap_or(1);
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(last)
    }

    fn accept(&mut self, event: Event<'_>, line: usize) -> Result<(), Error> {
        let line = self.line(line);
        match event {
            Event::DocumentStart(_) => {
                self.started += 1;
                if self.started > limits::DOCUMENTS {
                    return Err(Error::limit(
                        line,
                        "the number of documents",
                        limits::DOCUMENTS.to_string(),
                        "split the template into several",
                    ));
                }
                self.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = match tag {
                    None => style == ScalarStyle::Plain,
                    Some(tag) => typed_by_text(&tag, line)?,
                };
                let node = Node { line, data: Data::Scalar { text: text.into_owned(), plain } };
                self.count(1, 0, line)?;
                self.finish(node, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                check_collection(tag.as_deref(), "seq", line)?;
                self.open(Data::Sequence(Vec::new()), anchor, line)?;
            }
            Event::MappingStart(anchor, tag) => {
                check_collection(tag.as_deref(), "map", line)?;
                self.open(Data::Mapping(Vec::new()), anchor, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Frame { mut node, anchor, .. }) = self.open.pop() {
                    if let Data::Mapping(entries) = &mut node.data {
                        merge(entries)?;
                    }
                    self.finish(node, anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let node = self.copy(anchor, line)?;
                self.finish(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, data: Data, anchor: usize, line: usize) -> Result<(), Error> {
        self.count(1, 0, line)?;
        self.check_depth(1, line)?;
        self.open.push(Frame { node: Node { line, data }, anchor, key: None });
        Ok(())
    }

    /// The node of an anchor once more.
    fn copy(&mut self, anchor: usize, line: usize) -> Result<Node, Error> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Error::Yaml {
                line,
                problem: "an alias stands inside its own anchor; write the value out".to_owned(),
            });
        };
        let size = Size::of(node);
        self.check_depth(size.depth, line)?;
        let node = node.clone();
        self.count(size.nodes, size.bytes, line)?;
        Ok(node)
    }

    fn check_depth(&self, more: usize, line: usize) -> Result<(), Error> {
        if self.open.len() + more <= limits::YAML_DEPTH {
            return Ok(());
        }
        Err(Error::limit(
            line,
            "the depth of the document",
            format!("{} levels", limits::YAML_DEPTH),
            "nest less deeply",
        ))
    }

    fn count(&mut self, nodes: usize, bytes: usize, line: usize) -> Result<(), Error> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes <= limits::YAML_NODES && self.bytes <= limits::YAML_BYTES {
            return Ok(());
        }
        Err(Error::limit(
            line,
            "the YAML with its aliases expanded",
            format!("{} nodes and {} bytes", limits::YAML_NODES, limits::YAML_BYTES),
            "use fewer aliases or a smaller template",
        ))
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        if anchor != 0 {
            // The copy that is kept for aliases counts as well.
            let size = Size::of(&node);
            self.count(size.nodes, size.bytes, node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.open.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return Ok(());
        };
        match (&mut frame.node.data, frame.key.take()) {
            (Data::Sequence(items), _) => items.push(node),
            (Data::Mapping(entries), Some(key)) => entries.push((key, node)),
            (Data::Mapping(_), None) if node.scalar().is_some() => frame.key = Some(node),
            _ => {
                return Err(Error::Yaml {
                    line: node.line,
                    problem: "a key is not a string; if it should be a value, quote it".to_owned(),
                });
            }
        }
        Ok(())
    }
}

struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Size {
    fn of(node: &Node) -> Self {
        let mut total = Self { nodes: 1, bytes: 0, depth: 0 };
        let mut add = |child: &Node| {
            let size = Self::of(child);
            total.nodes += size.nodes;
            total.bytes += size.bytes;
            total.depth = total.depth.max(size.depth);
        };
        match &node.data {
            Data::Scalar { text, .. } => total.bytes = text.len(),
            Data::Sequence(items) => {
                items.iter().for_each(&mut add);
                total.depth += 1;
            }
            Data::Mapping(entries) => {
                entries.iter().for_each(|(key, value)| {
                    add(key);
                    add(value);
                });
                total.depth += 1;
            }
        }
        total
    }
}

/// Resolves `<<`: the merged mappings' entries, where the mapping has none of
/// that name.
fn merge(entries: &mut Vec<(Node, Node)>) -> Result<(), Error> {
    let is_merge = |key: &Node| matches!(&key.data, Data::Scalar { text, plain: true } if text == "<<");
    if !entries.iter().any(|(key, _)| is_merge(key)) {
        return Ok(());
    }
    let (merged, mut kept): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|(key, _)| is_merge(key));
    let mut names: BTreeSet<String> =
        kept.iter().filter_map(|(key, _)| key.scalar().map(str::to_owned)).collect();
    for (_, value) in merged {
        let line = value.line;
        let sources = match value.data {
            Data::Sequence(items) => items,
            data => vec![Node { line, data }],
        };
        for source in sources {
            let Data::Mapping(more) = source.data else {
                return Err(Error::Yaml { line, problem: "`<<` merges mappings only; name one".to_owned() });
            };
            kept.extend(
                more.into_iter()
                    .filter(|(key, _)| key.scalar().is_none_or(|name| names.insert(name.to_owned()))),
            );
        }
    }
    *entries = kept;
    Ok(())
}

fn typed_by_text(tag: &Tag, line: usize) -> Result<bool, Error> {
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        return Ok(false);
    }
    match tag.suffix.as_str() {
        "str" if tag.is_yaml_core_schema() => Ok(false),
        "int" | "float" | "bool" | "null" if tag.is_yaml_core_schema() => Ok(true),
        _ => Err(refuse_tag(tag, line)),
    }
}

fn check_collection(tag: Option<&Tag>, name: &str, line: usize) -> Result<(), Error> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == name) => Err(refuse_tag(tag, line)),
        _ => Ok(()),
    }
}

fn refuse_tag(tag: &Tag, line: usize) -> Error {
    Error::Yaml {
        line,
        problem: format!("the tag `{}` is not offered; remove it", crate::error::shorten(&tag.to_string())),
    }
}
