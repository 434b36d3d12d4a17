//! What an expression results in, with JavaScript's rules of conversion.

use std::sync::Arc;

/// The value of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(Arc<str>),
    /// A boolean input. It is the text `true` or `false`, as the format has it
    /// (`inputs.x === 'true'`), but it is also equal to the boolean, and false
    /// is false: a template that asks `if(inputs.x)` means just that.
    Switch(bool),
}

impl Value {
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether a condition holds.
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(value) | Self::Switch(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
        }
    }

    /// The text as JavaScript joins it to a string.
    pub(crate) fn to_text(&self) -> Arc<str> {
        match self {
            Self::Undefined => "undefined".into(),
            Self::Null => "null".into(),
            Self::Bool(value) | Self::Switch(value) => if *value { "true" } else { "false" }.into(),
            Self::Number(number) => format_number(*number).into(),
            Self::Text(text) => text.clone(),
        }
    }

    /// The text as it stands in a document: what isn't there leaves nothing.
    pub(crate) fn to_output(&self) -> Arc<str> {
        match self {
            Self::Undefined | Self::Null => "".into(),
            other => other.to_text(),
        }
    }

    /// The number, `NaN` where there is none.
    pub(crate) fn to_number(&self) -> f64 {
        match self {
            Self::Undefined | Self::Switch(_) => f64::NAN,
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(number) => *number,
            Self::Text(text) => parse_number(text),
        }
    }

    /// How many bytes an operation on the value touches.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 1,
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Switch(_))
    }

    /// `===`
    pub(crate) fn strictly_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined, Self::Undefined) | (Self::Null, Self::Null) => true,
            (Self::Bool(a) | Self::Switch(a), Self::Bool(b) | Self::Switch(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (a, b) if a.is_text() && b.is_text() => a.to_text() == b.to_text(),
            _ => false,
        }
    }

    /// `==`
    pub(crate) fn loosely_equals(&self, other: &Self) -> bool {
        let absent = |value: &Self| matches!(value, Self::Undefined | Self::Null);
        match (self, other) {
            (a, b) if absent(a) || absent(b) => absent(a) && absent(b),
            (a, b) if a.strictly_equals(b) => true,
            (a, b) if a.is_text() && b.is_text() => false,
            (a, b) => a.to_number() == b.to_number(),
        }
    }

    /// How two values are ordered; nothing where one is not a number.
    pub(crate) fn compare(&self, other: &Self) -> Option<std::cmp::Ordering> {
        if self.is_text() && other.is_text() {
            return Some(self.to_text().cmp(&other.to_text()));
        }
        self.to_number().partial_cmp(&other.to_number())
    }
}

fn format_number(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if (1e-6..1e21).contains(&size) {
        format!("{number}")
    } else {
        let text = format!("{number:e}");
        if text.contains("e-") { text } else { text.replace('e', "e+") }
    }
}

fn parse_number(text: &str) -> f64 {
    let text = text.trim();
    match text {
        "" => 0.0,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}
