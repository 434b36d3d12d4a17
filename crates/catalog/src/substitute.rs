//! Parsed documents with their slots filled, as JSON.

use serde_json::{Map, Value as Json};

use crate::error::{Error, shorten};
use crate::expression::Expression;
use crate::expression::value::Value;
use crate::slot::{Piece, Slots};
use crate::yaml::{Data, Node};
use crate::{limits, scalar};

type Compute<'a> = &'a mut dyn FnMut(&Expression) -> Result<Value, Error>;

/// Fills the slots of a template's documents, and counts what comes out.
pub(crate) struct Substitution<'a> {
    slots: &'a Slots,
    bytes: usize,
}

/// What a value's place says about its type. An input of digits would turn into
/// a number wherever its author left out the quotes; where Kubernetes knows
/// nothing but strings, it stays one.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Any,
    /// A string.
    Text,
    /// A mapping or sequence of strings.
    Texts,
}

impl Place {
    /// The place of a key's value.
    fn of(self, key: &str) -> Self {
        match (self, key) {
            (Self::Texts, _) | (_, "name" | "namespace" | "value" | "host" | "image") => Self::Text,
            (
                _,
                "labels" | "annotations" | "matchLabels" | "nodeSelector" | "data" | "stringData" | "args"
                | "command",
            ) => Self::Texts,
            _ => Self::Any,
        }
    }
}

impl<'a> Substitution<'a> {
    pub(crate) fn new(slots: &'a Slots) -> Self {
        Self { slots, bytes: 0 }
    }

    /// One document. Its expressions are computed in the order they stand.
    pub(crate) fn document(&mut self, node: &Node, compute: Compute<'_>) -> Result<Json, Error> {
        self.node(node, Place::Any, compute)
    }

    /// Recursion is bounded by the depth of the YAML.
    fn node(&mut self, node: &Node, place: Place, compute: Compute<'_>) -> Result<Json, Error> {
        match &node.data {
            Data::Scalar { text, plain } => self.scalar(text, *plain, place, node.line, compute),
            Data::Sequence(items) => {
                self.count(2, node.line)?;
                let inner = if place == Place::Texts { Place::Text } else { Place::Any };
                items.iter().map(|item| self.node(item, inner, compute)).collect()
            }
            Data::Mapping(entries) => {
                self.count(2, node.line)?;
                let mut object = Map::new();
                for (key, value) in entries {
                    let name = key.scalar().unwrap_or_default();
                    let name = match self.scalar(name, false, Place::Text, key.line, compute)? {
                        Json::String(name) => name,
                        other => other.to_string(),
                    };
                    let value = self.node(value, place.of(&name), compute)?;
                    if object.contains_key(&name) {
                        return Err(Error::Yaml {
                            line: key.line,
                            problem: format!("the key `{}` stands there twice; remove one", shorten(&name)),
                        });
                    }
                    object.insert(name, value);
                }
                Ok(Json::Object(object))
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        place: Place,
        line: usize,
        compute: Compute<'_>,
    ) -> Result<Json, Error> {
        let slots = self.slots;
        let value = match slots.pieces(text).as_slice() {
            [] if plain => Json::Null,
            [Piece::Text(text)] if plain => scalar::literal(text),
            [Piece::Expression(expression)] if plain => match compute(expression)? {
                Value::Null => Json::Null,
                value if place == Place::Text => Json::from(&*value.to_output()),
                value => scalar::computed(&value.to_output()),
            },
            pieces => {
                let mut result = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => result.push_str(text),
                        Piece::Expression(expression) => {
                            result.push_str(&compute(expression)?.to_output());
                        }
                    }
                    // Before the string is finished: it may be large on its own.
                    self.check(result.len(), line)?;
                }
                Json::String(result)
            }
        };
        self.count(json_bytes(&value), line)?;
        Ok(value)
    }

    fn count(&mut self, bytes: usize, line: usize) -> Result<(), Error> {
        // A comma or a colon follows each value.
        self.check(bytes + 1, line)?;
        self.bytes += bytes + 1;
        Ok(())
    }

    fn check(&self, more: usize, line: usize) -> Result<(), Error> {
        if self.bytes + more <= limits::OUTPUT_BYTES {
            return Ok(());
        }
        Err(Error::limit(
            line,
            "what the template makes",
            format!("{} bytes", limits::OUTPUT_BYTES),
            "make fewer or smaller objects",
        ))
    }
}

/// How many bytes a scalar takes as JSON, escapes included.
fn json_bytes(value: &Json) -> usize {
    match value {
        Json::String(text) => {
            let escapes: usize = text
                .bytes()
                .map(|byte| match byte {
                    b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
                    0..0x20 => 5,
                    _ => 0,
                })
                .sum();
            2 + text.len() + escapes
        }
        Json::Number(number) => number.to_string().len(),
        _ => 5,
    }
}
