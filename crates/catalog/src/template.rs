//! A template as it is read: the `Template` document, and the rest of the
//! stream as text, because its conditionals come before its YAML.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::app::{App, Context, Random};
use crate::error::{Error, shorten};
use crate::expression::Expression;
use crate::input::{Input, InputKind};
use crate::slot::{self, Piece, Slots};
use crate::yaml::{self, Data, Node};
use crate::{conditional, evaluate, limits};

/// An app template.
#[derive(Clone, Debug)]
pub struct Template {
    pub(crate) name: String,
    about: About,
    pub(crate) defaults: Vec<Preset>,
    pub(crate) inputs: Vec<Input>,
    /// The documents after the first one, and the line they begin at.
    pub(crate) rest: String,
    pub(crate) rest_line: usize,
}

/// What a store shows of a template. Text is as the template has it, and
/// untrusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct About {
    /// The name that people read.
    pub title: String,
    /// The app's home page.
    pub url: String,
    /// Where its source is.
    pub git_repo: String,
    /// Who wrote the template.
    pub author: String,
    /// One paragraph.
    pub description: String,
    /// The address of a longer text.
    pub readme: String,
    /// The address of a picture.
    pub icon: String,
    /// Such as `inline`.
    pub template_type: String,
    /// Where it is filed.
    pub categories: Vec<String>,
    /// The language of the fields above.
    pub locale: String,
    /// The same fields by language, then by name.
    pub i18n: BTreeMap<String, BTreeMap<String, String>>,
}

/// One of `spec.defaults`.
#[derive(Clone, Debug)]
pub(crate) struct Preset {
    pub(crate) name: String,
    pub(crate) value: Text,
    pub(crate) line: usize,
}

/// A string with expressions in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Reads a template from its source. Objects are looked at only when they
    /// are evaluated, since conditions decide which of them there are.
    ///
    /// # Errors
    /// The source is too large, its first document is not a `Template` or one
    /// of its fields or expressions can't be read.
    pub fn parse(source: &str) -> Result<Self, Error> {
        if source.len() > limits::SOURCE_BYTES {
            return Err(Error::limit(
                0,
                "the template",
                format!("{} bytes", limits::SOURCE_BYTES),
                "remove what it can fetch at run time",
            ));
        }
        if let Some(at) = source.find('\0') {
            let line = 1 + source[..at].matches('\n').count();
            return Err(Error::Yaml { line, problem: "a zero byte; remove it".to_owned() });
        }
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let (first, rest, rest_line) = split(source)?;
        let lines: Vec<usize> = (1..=first.split_inclusive('\n').count()).collect();
        let (text, slots) = slot::extract(first, &lines)?;
        let documents = yaml::parse(&text, &lines)?;
        let [document] = documents.as_slice() else {
            return Err(Error::Object {
                line: 1,
                problem: "the first document is not a `Template` (app.sealos.io/v1); begin with one"
                    .to_owned(),
            });
        };
        Reader { slots: &slots }.template(document, rest, rest_line)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a store shows of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// What it asks for, in its own order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Makes the app: defaults, inputs, conditionals, substitution, in this
    /// order. `values` are inputs by name. It does no I/O and stays within
    /// [`limits`](crate::limits); whether Atoll offers the objects is
    /// [`check_supported`](crate::check_supported)'s to say.
    ///
    /// # Errors
    /// A value is missing, unknown or doesn't fit its input; an expression, a
    /// conditional or the YAML is wrong; a bound is reached.
    pub fn evaluate(
        &self,
        values: &BTreeMap<String, String>,
        context: &Context,
        random: &mut dyn Random,
    ) -> Result<App, Error> {
        evaluate::evaluate(self, values, context, random)
    }
}

/// The first document, the rest and the rest's first line. A `---` ends a
/// document only in the first column: a block scalar's lines are indented, and
/// YAML forbids it in the other scalars.
fn split(source: &str) -> Result<(&str, &str, usize), Error> {
    let mut at = 0;
    // Where the rest begins: conditionals right before `---` belong to it.
    let mut candidate: Option<(usize, usize)> = None;
    let mut content_seen = false;
    for (index, content) in source.split_inclusive('\n').enumerate() {
        let trimmed = content.trim();
        let marker = content
            .strip_prefix("---")
            .is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']));
        if marker && content_seen {
            let (start, line) = candidate.unwrap_or((at, index + 1));
            return Ok((&source[..start], &source[start..], line));
        }
        let blank = trimmed.is_empty() || trimmed.starts_with('#') || trimmed == "...";
        if conditional::is_control(content) {
            if !content_seen {
                return Err(misplaced(trimmed, index + 1));
            }
            candidate = candidate.or(Some((at, index + 1)));
        } else if !blank {
            if let Some((start, line)) = candidate {
                let expression = source[start..].lines().next().unwrap_or_default();
                return Err(misplaced(expression, line));
            }
            content_seen |= !trimmed.starts_with('%') && (!marker || trimmed.len() > 3);
        }
        at += content.len();
    }
    match candidate {
        Some((start, line)) => Ok((&source[..start], &source[start..], line)),
        None => Ok((source, "", 1 + source.matches('\n').count())),
    }
}

fn misplaced(expression: &str, line: usize) -> Error {
    Error::Conditional {
        line,
        expression: expression.trim().to_owned(),
        problem: "conditionals belong to the objects, not to the `Template` document; \
                  give an input an `if` instead",
    }
}

struct Reader<'a> {
    slots: &'a Slots,
}

impl Reader<'_> {
    fn template(&self, document: &Node, rest: &str, rest_line: usize) -> Result<Template, Error> {
        for (field, expected) in [("apiVersion", "app.sealos.io/v1"), ("kind", "Template")] {
            let found = document.get(field).map(|node| self.text(node, field)).transpose()?;
            if found.as_deref() != Some(expected) {
                let line = document.get(field).map_or(document.line, |node| node.line);
                let found = found.unwrap_or_default();
                return Err(Error::field(
                    line,
                    field,
                    format!(
                        "`{}` is not `{expected}`; a template's first document is a `Template`",
                        shorten(&found)
                    ),
                ));
            }
        }
        let name = self.named(document.get("metadata"), "metadata", "name")?;
        if name.is_empty() || name.len() > 253 || name.contains(slot::OPEN) {
            let line = document.get("metadata").map_or(document.line, |node| node.line);
            return Err(Error::field(line, "metadata.name", "it is missing or not plain; write a name"));
        }
        let Some(spec) = document.get("spec") else {
            return Err(Error::field(document.line, "spec", "it is missing; write one"));
        };
        Ok(Template {
            name,
            about: self.about(spec)?,
            defaults: self.defaults(spec.get("defaults"))?,
            inputs: self.inputs(spec.get("inputs"))?,
            rest: rest.to_owned(),
            rest_line,
        })
    }

    fn about(&self, spec: &Node) -> Result<About, Error> {
        let text = |key| self.named(Some(spec), "spec", key);
        let mut i18n = BTreeMap::new();
        for (language, fields) in spec.get("i18n").map(Node::entries).unwrap_or_default() {
            let path = format!("spec.i18n.{}", shorten(&self.text(language, "spec.i18n")?));
            let mut translated = BTreeMap::new();
            for (key, value) in fields.entries() {
                if value.scalar().is_some() {
                    translated.insert(self.text(key, &path)?, self.text(value, &path)?);
                }
            }
            i18n.insert(self.text(language, "spec.i18n")?, translated);
        }
        Ok(About {
            title: text("title")?,
            url: text("url")?,
            git_repo: text("gitRepo")?,
            author: text("author")?,
            description: text("description")?,
            readme: text("readme")?,
            icon: text("icon")?,
            template_type: text("templateType")?,
            categories: self.texts(spec.get("categories"), "spec.categories")?,
            locale: text("locale")?,
            i18n,
        })
    }

    fn defaults(&self, node: Option<&Node>) -> Result<Vec<Preset>, Error> {
        let mut defaults: Vec<Preset> = Vec::new();
        for (name, node, path) in self.members(node, "spec.defaults")? {
            let value = if node.scalar().is_some() { Some(node) } else { node.get("value") };
            let value = match value {
                Some(value) => self.expressions(value, &format!("{path}.value"))?,
                None => Text::default(),
            };
            defaults.push(Preset { name, value, line: node.line });
        }
        Ok(defaults)
    }

    fn inputs(&self, node: Option<&Node>) -> Result<Vec<Input>, Error> {
        let mut inputs = Vec::new();
        for (name, node, path) in self.members(node, "spec.inputs")? {
            let kind = self.named(Some(node), &path, "type")?;
            let line = |key| node.get(key).map_or(node.line, |node: &Node| node.line);
            let kind = match kind.as_str() {
                "" => InputKind::String,
                other => InputKind::from_name(other).ok_or_else(|| {
                    let problem = format!(
                        "`{}` is not a type; types are: string, number, int, float, choice, boolean",
                        shorten(other)
                    );
                    Error::field(line("type"), format!("{path}.type"), problem)
                })?,
            };
            let required = match self.named(Some(node), &path, "required")?.to_ascii_lowercase().as_str() {
                "true" => true,
                "" | "false" => false,
                _ => {
                    let problem = "it is neither true nor false; write one of them";
                    return Err(Error::field(line("required"), format!("{path}.required"), problem));
                }
            };
            let options = self.texts(node.get("options"), &format!("{path}.options"))?;
            if kind == InputKind::Choice && options.is_empty() {
                let problem = "a choice needs options; list at least one";
                return Err(Error::field(node.line, format!("{path}.options"), problem));
            }
            let default_text = match node.get("default") {
                Some(default) => self.expressions(default, &format!("{path}.default"))?,
                None => Text::default(),
            };
            let condition_expression = match node.get("if") {
                Some(condition) => self.condition(condition, &format!("{path}.if"))?,
                None => None,
            };
            inputs.push(Input {
                name,
                description: self.named(Some(node), &path, "description")?,
                kind,
                default: self.named(Some(node), &path, "default")?,
                required,
                options,
                condition: condition_expression.as_ref().map(|expression| expression.source.clone()),
                default_text,
                condition_expression,
                line: node.line,
            });
        }
        Ok(inputs)
    }

    /// An expression that may stand between `${{` and `}}` or alone.
    fn condition(&self, node: &Node, path: &str) -> Result<Option<Expression>, Error> {
        let text = node.scalar().ok_or_else(|| not_text(node, path))?;
        let expression = match self.slots.pieces(text).as_slice() {
            [] => return Ok(None),
            [Piece::Expression(expression)] => (*expression).clone(),
            _ => Expression { source: self.slots.restore(text).trim().to_owned(), line: node.line },
        };
        expression.check()?;
        Ok(Some(expression))
    }

    /// A mapping's names, values and the values' paths.
    fn members<'n>(
        &self,
        node: Option<&'n Node>,
        path: &str,
    ) -> Result<Vec<(String, &'n Node, String)>, Error> {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(Vec::new()) };
        if !matches!(node.data, Data::Mapping(_)) {
            return Err(Error::field(node.line, path, "it is not a mapping; write `name:` and its fields"));
        }
        if node.entries().len() > limits::NAMES {
            return Err(Error::limit(node.line, path, limits::NAMES.to_string(), "use fewer names"));
        }
        let mut members: Vec<(String, &Node, String)> = Vec::new();
        for (key, value) in node.entries() {
            let name = self.text(key, path)?;
            if members.iter().any(|(other, ..)| *other == name) {
                let problem = "the name stands there twice; remove one";
                return Err(Error::field(key.line, format!("{path}.{}", shorten(&name)), problem));
            }
            let path = format!("{path}.{}", shorten(&name));
            members.push((name, value, path));
        }
        Ok(members)
    }

    /// A scalar's parts, each expression checked.
    fn expressions(&self, node: &Node, path: &str) -> Result<Text, Error> {
        if node.is_null() {
            return Ok(Text::default());
        }
        let text = node.scalar().ok_or_else(|| not_text(node, path))?;
        let mut parts = Vec::new();
        for piece in self.slots.pieces(text) {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.to_owned()),
                Piece::Expression(expression) => {
                    expression.check()?;
                    Part::Expression(expression.clone())
                }
            });
        }
        Ok(Text(parts))
    }

    /// A scalar field of a mapping; empty where there is none.
    fn named(&self, node: Option<&Node>, path: &str, key: &str) -> Result<String, Error> {
        match node.and_then(|node| node.get(key)) {
            Some(value) => self.text(value, &format!("{path}.{key}")),
            None => Ok(String::new()),
        }
    }

    fn texts(&self, node: Option<&Node>, path: &str) -> Result<Vec<String>, Error> {
        match node.map(|node| &node.data) {
            None => Ok(Vec::new()),
            Some(Data::Sequence(items)) => items.iter().map(|item| self.text(item, path)).collect(),
            Some(_) => Ok(Vec::new()),
        }
    }

    fn text(&self, node: &Node, path: &str) -> Result<String, Error> {
        if node.is_null() {
            return Ok(String::new());
        }
        node.scalar().map(|text| self.slots.restore(text)).ok_or_else(|| not_text(node, path))
    }
}

fn not_text(node: &Node, path: &str) -> Error {
    Error::field(node.line, path, "it is not a single value; write text, a number or a boolean")
}
