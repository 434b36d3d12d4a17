//! What can be wrong with a template or with the values given for it.

use crate::limits;

/// Why a template was refused. Lines are counted from 1 in the template's
/// source; every message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bound of [`limits`] was reached. `line` is 0 where no line is to blame.
    #[error("{}{what} exceeds the limit of {limit}; {remedy}", at(*.line))]
    Limit {
        /// Where, or 0.
        line: usize,
        /// What is too large.
        what: String,
        /// The bound, with its unit.
        limit: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The text is not YAML, or YAML that has no meaning here.
    #[error("line {line}: not valid YAML: {problem}")]
    Yaml {
        /// Where.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A field of the `Template` document is missing or wrong.
    #[error("line {line}: {field}: {problem}")]
    Field {
        /// Where.
        line: usize,
        /// The field's path, such as `spec.inputs.port.type`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An expression can't be read or has no value.
    #[error("line {line}: in `{}`: {problem}", shorten(.expression))]
    Expression {
        /// Where.
        line: usize,
        /// What stands between `${{` and `}}`.
        expression: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An expression names something that doesn't exist.
    #[error(
        "line {line}: `{}` is not defined{}; {group} here are: {}",
        shorten(.name), within(.name, .expression), list(.known)
    )]
    NotDefined {
        /// Where.
        line: usize,
        /// What stands between `${{` and `}}`.
        expression: String,
        /// The name as written, such as `inputs.prot`.
        name: String,
        /// What kind of names `known` holds, such as `inputs`.
        group: &'static str,
        /// The names that do exist.
        known: Vec<String>,
    },
    /// Defaults or inputs that need each other's value.
    #[error(
        "line {line}: {} refer to each other without end; give one of them a value of its own",
        .names.join(" -> ")
    )]
    Cycle {
        /// Where the last of them is defined.
        line: usize,
        /// The names around the cycle; the first is also the last.
        names: Vec<String>,
    },
    /// A conditional line that has no partner or stands in the wrong place.
    #[error("line {line}: `{}`: {problem}", shorten(.expression))]
    Conditional {
        /// Where.
        line: usize,
        /// The line's expression.
        expression: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// `${{` without `}}` on the same line.
    #[error(
        "line {line}: `{}` is never closed; end it with `}}}}` on the same line",
        shorten(.expression)
    )]
    Unclosed {
        /// Where.
        line: usize,
        /// The text from `${{` on.
        expression: String,
    },
    /// A required input was not given.
    #[error("input `{name}` is required{}; give it with --set {name}=<{kind}>", about(.description))]
    MissingInput {
        /// The input's name.
        name: String,
        /// The input's type.
        kind: &'static str,
        /// The template's words about it.
        description: String,
    },
    /// A value for an input that the template doesn't have.
    #[error("the template has no input `{}`; inputs here are: {}", shorten(.name), list(.known))]
    UnknownInput {
        /// The name that was given.
        name: String,
        /// The inputs' names, in the template's order.
        known: Vec<String>,
    },
    /// A value that doesn't fit its input's type.
    #[error("input `{name}`: `{}` {problem}", shorten(.value))]
    InvalidInput {
        /// The input's name.
        name: String,
        /// The value that was given or came from the default.
        value: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A document that is not a Kubernetes object.
    #[error("line {line}: {problem}")]
    Object {
        /// Where the document begins.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An object that Atoll doesn't offer or a workspace may not hold.
    #[error("{kind} `{}` ({api_version}): {reason}", shorten(.name))]
    Unsupported {
        /// The object's `apiVersion`.
        api_version: String,
        /// The object's `kind`.
        kind: String,
        /// The object's name.
        name: String,
        /// Why, and what to do instead.
        reason: String,
    },
}

impl Error {
    /// The input that is wrong, if one is.
    pub fn input(&self) -> Option<&str> {
        match self {
            Self::MissingInput { name, .. }
            | Self::UnknownInput { name, .. }
            | Self::InvalidInput { name, .. } => Some(name),
            _ => None,
        }
    }

    pub(crate) fn limit(
        line: usize,
        what: impl Into<String>,
        limit: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self::Limit { line, what: what.into(), limit: limit.into(), remedy }
    }

    pub(crate) fn field(line: usize, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { line, field: field.into(), problem: problem.into() }
    }
}

/// Text from outside as it may stand in a message: one line of bounded length.
pub(crate) fn shorten(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text
        .chars()
        .take(limits::MESSAGE_CHARACTERS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if text.chars().nth(limits::MESSAGE_CHARACTERS).is_some() {
        short.push('…');
    }
    short
}

/// Names as they stand in a message.
pub(crate) fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text =
        names.iter().take(limits::MESSAGE_NAMES).map(|name| shorten(name)).collect::<Vec<_>>().join(", ");
    if names.len() > limits::MESSAGE_NAMES {
        text.push_str(", …");
    }
    text
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

fn within(name: &str, expression: &str) -> String {
    if name == expression.trim() { String::new() } else { format!(" (in `{}`)", shorten(expression)) }
}

fn about(description: &str) -> String {
    if description.is_empty() { String::new() } else { format!(" ({})", shorten(description)) }
}
