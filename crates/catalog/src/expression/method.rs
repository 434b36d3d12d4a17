//! The methods of strings.

use super::parser::Node;
use super::value::Value;
use super::{Failure, Scope, bounded, evaluate, regex};

const OFFERED: [&str; 7] =
    ["toLowerCase", "toUpperCase", "trim", "replace", "includes", "startsWith", "endsWith"];

/// `object.name(arguments)`
pub(super) fn call(
    object: &Node,
    name: &str,
    arguments: &[Node],
    scope: &mut dyn Scope,
) -> Result<Value, Failure> {
    if !OFFERED.contains(&name) {
        return Err(Failure::NotDefined {
            name: format!(".{name}()"),
            group: "methods",
            known: OFFERED.iter().map(|name| format!(".{name}()")).collect(),
        });
    }
    let object = evaluate(object, scope)?;
    if !object.is_text() {
        return Err(Failure::Here(format!(
            "`.{name}()` needs a string, not {}; join it with '' first",
            object.to_text()
        )));
    }
    let text = object.to_text();
    scope.charge(text.len() as u64)?;
    match (name, arguments) {
        ("toLowerCase", []) => make(text.to_lowercase()),
        ("toUpperCase", []) => make(text.to_uppercase()),
        ("trim", []) => make(text.trim().to_owned()),
        ("includes", [part]) => Ok(Value::Bool(text.contains(&*operand(part, scope)?))),
        ("startsWith", [part]) => Ok(Value::Bool(text.starts_with(&*operand(part, scope)?))),
        ("endsWith", [part]) => Ok(Value::Bool(text.ends_with(&*operand(part, scope)?))),
        ("replace", [pattern, replacement]) => replace(&text, pattern, replacement, scope),
        _ => Err(Failure::Here(format!(
            "`.{name}()` doesn't take {} arguments; {}",
            arguments.len(),
            match name {
                "replace" => "write `.replace('a', 'b')`",
                "includes" | "startsWith" | "endsWith" => "it takes one",
                _ => "it takes none",
            }
        ))),
    }
}

fn make(text: String) -> Result<Value, Failure> {
    bounded(text.len())?;
    Ok(Value::text(text))
}

fn operand(node: &Node, scope: &mut dyn Scope) -> Result<std::sync::Arc<str>, Failure> {
    let text = evaluate(node, scope)?.to_text();
    scope.charge(text.len() as u64)?;
    Ok(text)
}

fn replace(text: &str, pattern: &Node, replacement: &Node, scope: &mut dyn Scope) -> Result<Value, Failure> {
    // One search costs at most the pattern's size for each byte of the text;
    // a search for each match makes that the square.
    let (pattern, every, cost) = match pattern {
        Node::Regex(pattern, flags) => {
            scope.charge(crate::limits::REGEX_STEPS)?;
            let (regex, every) = regex::compile(pattern, flags)?;
            (regex, every, 1 + pattern.len() as u64 / 8)
        }
        other => {
            let pattern = operand(other, scope)?;
            return replace_first(text, &pattern, &operand(replacement, scope)?);
        }
    };
    scope.charge(text.len() as u64 * cost)?;
    let replacement = operand(replacement, scope)?;
    let mut result = String::new();
    let mut copied = 0;
    for captures in pattern.captures_iter(text).take(if every { usize::MAX } else { 1 }) {
        let Some(found) = captures.get(0) else { break };
        result.push_str(&text[copied..found.start()]);
        regex::expand(&replacement, text, found.range(), Some(&captures), &mut result)?;
        bounded(result.len())?;
        let remaining = text.len() - found.end();
        scope.charge(1 + replacement.len() as u64 + remaining as u64 * cost)?;
        copied = found.end();
    }
    result.push_str(&text[copied..]);
    scope.charge(result.len() as u64)?;
    make(result)
}

fn replace_first(text: &str, pattern: &str, replacement: &str) -> Result<Value, Failure> {
    let Some((before, after)) = text.split_once(pattern) else { return make(text.to_owned()) };
    let mut result = before.to_owned();
    let whole = before.len()..before.len() + pattern.len();
    regex::expand(replacement, text, whole, None, &mut result)?;
    result.push_str(after);
    make(result)
}
