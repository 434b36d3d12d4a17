//! Conditional lines, resolved in the text before YAML is parsed. Only their
//! conditions are evaluated here; nothing is substituted, so no value gets into
//! the text.

use crate::error::Error;
use crate::expression::Expression;
use crate::expression::value::Value;
use crate::{limits, slot};

/// What a conditional line says.
enum Control {
    If(Expression),
    Elif(Expression),
    Else,
    Endif,
}

/// An `if` that waits for its `endif`.
struct Level {
    line: usize,
    source: String,
    /// Whether the lines around it are kept.
    outer: bool,
    /// Whether its current branch is kept.
    active: bool,
    /// Whether one of its branches was kept.
    taken: bool,
    /// Whether `else` was seen.
    last: bool,
}

/// Whether a line is a conditional, whatever its condition.
pub(crate) fn is_control(content: &str) -> bool {
    matches!(read(content, 0), Ok(Some(_)) | Err(Error::Conditional { .. }))
}

/// The lines that stand after the conditionals are resolved, and each one's
/// number in the source; `first` is the first line's. `evaluate` is asked for
/// the conditions that decide something.
pub(crate) fn resolve(
    text: &str,
    first: usize,
    evaluate: &mut dyn FnMut(&Expression) -> Result<Value, Error>,
) -> Result<(String, Vec<usize>), Error> {
    let mut levels: Vec<Level> = Vec::new();
    let (mut result, mut lines) = (String::with_capacity(text.len()), Vec::new());
    for (index, content) in text.split_inclusive('\n').enumerate() {
        let line = first + index;
        let active = levels.last().is_none_or(|level| level.active);
        let Some((source, control)) = read(content, line)? else {
            if active {
                result.push_str(content);
                lines.push(line);
            }
            continue;
        };
        let misplaced = |problem| Error::Conditional { line, expression: source.clone(), problem };
        match control {
            Control::If(condition) => {
                if levels.len() == limits::CONDITIONAL_DEPTH {
                    return Err(Error::limit(
                        line,
                        "the depth of conditionals",
                        format!("{} levels", limits::CONDITIONAL_DEPTH),
                        "join conditions with `&&`",
                    ));
                }
                let holds = active && evaluate(&condition)?.truthy();
                levels.push(Level {
                    line,
                    source: source.clone(),
                    outer: active,
                    active: holds,
                    taken: holds,
                    last: false,
                });
            }
            Control::Elif(condition) => {
                let level = levels.last_mut().ok_or_else(|| misplaced("no `if` is open there; remove it"))?;
                if level.last {
                    return Err(misplaced("it follows `else`; put it before"));
                }
                let holds = level.outer && !level.taken && evaluate(&condition)?.truthy();
                level.active = holds;
                level.taken |= holds;
            }
            Control::Else => {
                let level = levels.last_mut().ok_or_else(|| misplaced("no `if` is open there; remove it"))?;
                if level.last {
                    return Err(misplaced("the `if` has an `else` already; remove one"));
                }
                level.active = level.outer && !level.taken;
                level.last = true;
            }
            Control::Endif => {
                levels.pop().ok_or_else(|| misplaced("no `if` is open there; remove it"))?;
            }
        }
    }
    match levels.pop() {
        None => Ok((result, lines)),
        Some(level) => Err(Error::Conditional {
            line: level.line,
            expression: level.source,
            problem: "the `if` is never closed; end it with `${{ endif() }}` on a line of its own",
        }),
    }
}

/// A line's conditional, if it is one. A YAML comment may follow it.
fn read(content: &str, line: usize) -> Result<Option<(String, Control)>, Error> {
    let content = content.trim();
    if !content.starts_with(slot::OPEN) {
        return Ok(None);
    }
    let Some((_, expression, after)) = slot::next(content, line)? else { return Ok(None) };
    let after = after.trim_start();
    if !(after.is_empty() || after.starts_with('#')) {
        return Ok(None);
    }
    let source = expression.source.clone();
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let length = source.find(|character| !is_word(character)).unwrap_or(source.len());
    let (mut word, mut rest) = source.split_at(length);
    if let ("else", Some(condition)) = (word, rest.trim_start().strip_prefix("if"))
        && !condition.starts_with(is_word)
    {
        (word, rest) = ("elif", condition);
    }
    let rest = rest.trim();
    let problem = |problem| Err(Error::Conditional { line, expression: source.clone(), problem });
    let empty = rest.is_empty()
        || rest
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .is_some_and(|inside| inside.trim().is_empty());
    let control = match word {
        "if" | "elif" | "elseif" if empty => {
            return problem("the condition is missing; write it between the parentheses");
        }
        "if" => Control::If(Expression { source: rest.to_owned(), line }),
        "elif" | "elseif" => Control::Elif(Expression { source: rest.to_owned(), line }),
        "else" if empty => Control::Else,
        "endif" if empty => Control::Endif,
        "else" => return problem("`else` takes no condition; write `elif(condition)`"),
        "endif" => return problem("`endif` takes no condition; write `endif()`"),
        _ => return Ok(None),
    };
    Ok(Some((source, control)))
}
