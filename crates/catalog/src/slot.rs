//! Expressions taken out of a text and put back into its strings.
//!
//! Each `${{ … }}` is replaced by a slot: an inert word that occurs nowhere
//! else in the text and means the same to YAML wherever it stands. YAML is
//! parsed with the slots in it, and only then are they filled, inside the
//! parsed strings. So no value, whatever it holds, can end the string it stands
//! in, and no value is ever looked at for expressions.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::expression::{Expression, lexer};
use crate::limits;

/// What opens an expression.
pub(crate) const OPEN: &str = "${{";

/// The expressions of one text.
pub(crate) struct Slots {
    prefix: String,
    expressions: Vec<Expression>,
}

/// A part of a string.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Expression(&'a Expression),
}

/// Replaces every expression of a text by a slot. `lines` gives each line's
/// number in the source.
pub(crate) fn extract(text: &str, lines: &[usize]) -> Result<(String, Slots), Error> {
    let mut slots = Slots { prefix: unused_prefix(text), expressions: Vec::new() };
    let mut result = String::with_capacity(text.len());
    for (index, content) in text.split_inclusive('\n').enumerate() {
        let line = lines.get(index).copied().unwrap_or(0);
        let mut rest = content;
        while let Some((before, found, after)) = next(rest, line)? {
            result.push_str(before);
            result.push_str(&format!("{}{}z", slots.prefix, slots.expressions.len()));
            slots.expressions.push(found);
            rest = after;
        }
        result.push_str(rest);
    }
    Ok((result, slots))
}

/// The first expression of a line: what stands before it, itself, and what
/// stands after it.
pub(crate) fn next(content: &str, line: usize) -> Result<Option<(&str, Expression, &str)>, Error> {
    let Some(start) = content.find(OPEN) else { return Ok(None) };
    let inside = &content[start + OPEN.len()..];
    let Some(end) = lexer::end(inside) else {
        return Err(Error::Unclosed { line, expression: content[start..].trim().to_owned() });
    };
    if end > limits::EXPRESSION_BYTES {
        return Err(Error::limit(
            line,
            "the expression",
            format!("{} bytes", limits::EXPRESSION_BYTES),
            "move parts of it to `spec.defaults`",
        ));
    }
    let expression = Expression { source: inside[..end].trim().to_owned(), line };
    Ok(Some((&content[..start], expression, &inside[end + 2..])))
}

/// `slot`, a number that stands at no such place in the text, and `q`.
fn unused_prefix(text: &str) -> String {
    let taken: BTreeSet<usize> = text
        .split("slot")
        .skip(1)
        .filter_map(|after| {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            if after.as_bytes().get(digits) == Some(&b'q') { after[..digits].parse().ok() } else { None }
        })
        .collect();
    let number = (0..).find(|number| !taken.contains(number)).unwrap_or(0);
    format!("slot{number}q")
}

impl Slots {
    /// The parts of a parsed string, in order.
    pub(crate) fn pieces<'a>(&'a self, text: &'a str) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut searched = 0;
        while let Some(found) = rest[searched..].find(&self.prefix) {
            let start = searched + found;
            let after = start + self.prefix.len();
            let digits = rest[after..].bytes().take_while(u8::is_ascii_digit).count();
            let expression = (rest.as_bytes().get(after + digits) == Some(&b'z'))
                .then(|| rest[after..after + digits].parse::<usize>().ok())
                .flatten()
                .and_then(|index| self.expressions.get(index));
            let Some(expression) = expression else {
                searched = after;
                continue;
            };
            if start > 0 {
                pieces.push(Piece::Text(&rest[..start]));
            }
            pieces.push(Piece::Expression(expression));
            rest = &rest[after + digits + 1..];
            searched = 0;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }

    /// A parsed string as its author wrote it.
    pub(crate) fn restore(&self, text: &str) -> String {
        let mut result = String::new();
        for piece in self.pieces(text) {
            match piece {
                Piece::Text(text) => result.push_str(text),
                Piece::Expression(expression) => {
                    result.push_str(&format!("{OPEN} {} }}}}", expression.source));
                }
            }
        }
        result
    }
}
