//! What a template asks its user for.

use serde::Serialize;

use crate::error::{Error, list, shorten};
use crate::expression::Expression;
use crate::limits;
use crate::template::Text;

/// The type of an input's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Any text.
    String,
    /// A decimal number, with or without a fraction.
    Number,
    /// A whole number.
    Int,
    /// A decimal number, with or without a fraction.
    Float,
    /// One of [`Input::options`].
    Choice,
    /// `true` or `false`.
    Boolean,
}

impl InputKind {
    /// The kind's name in a template.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Int => "int",
            Self::Float => "float",
            Self::Choice => "choice",
            Self::Boolean => "boolean",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::String, Self::Number, Self::Int, Self::Float, Self::Choice, Self::Boolean]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// One input, as a form shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Input {
    /// The name, as in `inputs.<name>`.
    pub name: String,
    /// The template's words about it; empty where it has none.
    pub description: String,
    /// The type of its value.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// The default as written, expressions and all; empty where there is none.
    pub default: String,
    /// Whether it must have a value, where its condition holds.
    pub required: bool,
    /// What a choice may be.
    pub options: Vec<String>,
    /// The expression that must hold for the input to apply, as written.
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(skip)]
    pub(crate) default_text: Text,
    #[serde(skip)]
    pub(crate) condition_expression: Option<Expression>,
    #[serde(skip)]
    pub(crate) line: usize,
}

impl Input {
    /// The value as it is used, or why it can't be.
    pub(crate) fn check(&self, value: &str) -> Result<String, Error> {
        if value.len() > limits::VALUE_BYTES {
            return Err(self.refuse(
                value,
                format!("… exceeds the limit of {} bytes; make it shorter", limits::VALUE_BYTES),
            ));
        }
        if self.kind == InputKind::String {
            return Ok(value.to_owned());
        }
        let value = value.trim();
        if value.is_empty() && !self.required {
            return Ok(String::new());
        }
        let number = || {
            let decimal = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            decimal && value.parse().is_ok_and(f64::is_finite)
        };
        let problem = match self.kind {
            InputKind::String => None,
            InputKind::Number | InputKind::Float => {
                (!number()).then(|| "is not a number; write one such as 10 or 0.5".to_owned())
            }
            InputKind::Int => value
                .parse::<i64>()
                .is_err()
                .then(|| "is not a whole number; write one such as 10".to_owned()),
            InputKind::Choice => (!self.options.iter().any(|option| option == value))
                .then(|| format!("is not one of its options; they are: {}", list(&self.options))),
            InputKind::Boolean => {
                return match value.to_ascii_lowercase().as_str() {
                    switch @ ("true" | "false") => Ok(switch.to_owned()),
                    _ => Err(self.refuse(value, "is neither true nor false; write one of them".to_owned())),
                };
            }
        };
        match problem {
            None => Ok(value.to_owned()),
            Some(problem) => Err(self.refuse(value, problem)),
        }
    }

    fn refuse(&self, value: &str, problem: String) -> Error {
        Error::InvalidInput { name: self.name.clone(), value: shorten(value), problem }
    }
}
