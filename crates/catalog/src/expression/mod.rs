//! The expressions of a template: a small subset of JavaScript without loops,
//! assignment or objects. [`lexer`] and [`parser`] read it, [`evaluate`]
//! computes it; what names mean is asked of a [`Scope`].

pub(crate) mod lexer;
mod method;
mod parser;
mod regex;
pub(crate) mod value;

use parser::{Node, Operator};
use value::Value;

use crate::error::Error;
use crate::limits;

/// An expression as it stands in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    /// What stands between `${{` and `}}`, trimmed.
    pub(crate) source: String,
    /// Where, counted from 1.
    pub(crate) line: usize,
}

/// Names that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Defaults,
    Inputs,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Inputs => "inputs",
        }
    }
}

/// Why an expression has no value.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something is wrong with the expression itself.
    Here(String),
    /// A name is not known.
    NotDefined { name: String, group: &'static str, known: Vec<String> },
    /// Something is wrong elsewhere, in the default or input that it needs.
    Elsewhere(Error),
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self::Here(problem)
    }
}

/// What an expression can see and spend.
pub(crate) trait Scope {
    /// The value of `defaults.name` or `inputs.name`.
    fn member(&mut self, group: Group, name: &str) -> Result<Value, Failure>;
    /// The value of a name that stands alone.
    fn name(&mut self, name: &str) -> Result<Value, Failure>;
    /// So many random lower-case letters.
    fn letters(&mut self, count: usize) -> String;
    /// Pays for work; fails when the evaluation has had its share.
    fn charge(&mut self, steps: u64) -> Result<(), Failure>;
}

impl Expression {
    /// Whether it can be read at all.
    pub(crate) fn check(&self) -> Result<(), Error> {
        parser::parse(&self.source).map(drop).map_err(|problem| self.fail(problem))
    }

    /// Its value in a scope. Errors name the line and the expression.
    pub(crate) fn evaluate(&self, scope: &mut dyn Scope) -> Result<Value, Error> {
        let node = parser::parse(&self.source).map_err(|problem| self.fail(problem))?;
        scope
            .charge(self.source.len() as u64)
            .and_then(|()| evaluate(&node, scope))
            .map_err(|failure| self.locate(failure))
    }

    fn fail(&self, problem: String) -> Error {
        Error::Expression { line: self.line, expression: self.source.clone(), problem }
    }

    fn locate(&self, failure: Failure) -> Error {
        match failure {
            Failure::Here(problem) => self.fail(problem),
            Failure::NotDefined { name, group, known } => {
                Error::NotDefined { line: self.line, expression: self.source.clone(), name, group, known }
            }
            Failure::Elsewhere(error) => error,
        }
    }
}

/// Recursion is bounded by the depth of the tree.
fn evaluate(node: &Node, scope: &mut dyn Scope) -> Result<Value, Failure> {
    scope.charge(1)?;
    match node {
        Node::Literal(value) => Ok(value.clone()),
        Node::Regex(..) => {
            Err(Failure::Here("a regular expression stands only in `.replace(/…/, '…')`".to_owned()))
        }
        Node::Name(name) => scope.name(name),
        Node::Member(object, key) => member(object, key, scope),
        Node::Not(operand) => Ok(Value::Bool(!evaluate(operand, scope)?.truthy())),
        Node::Negate(operand) => Ok(Value::Number(-evaluate(operand, scope)?.to_number())),
        Node::Choose(condition, yes, no) => {
            let branch = if evaluate(condition, scope)?.truthy() { yes } else { no };
            evaluate(branch, scope)
        }
        Node::Binary(operator, left, right) => binary(*operator, left, right, scope),
        Node::Call(name, arguments) => call(name, arguments, scope),
        Node::Method(object, name, arguments) => method::call(object, name, arguments, scope),
    }
}

fn member(object: &Node, key: &Node, scope: &mut dyn Scope) -> Result<Value, Failure> {
    let key = evaluate(key, scope)?.to_text();
    let group = match object {
        Node::Name(name) if name == "defaults" => Some(Group::Defaults),
        Node::Name(name) if name == "inputs" => Some(Group::Inputs),
        _ => None,
    };
    if let Some(group) = group {
        return scope.member(group, &key);
    }
    let object = evaluate(object, scope)?;
    if &*key == "length" && object.is_text() {
        scope.charge(object.weight() as u64)?;
        let length = object.to_text().encode_utf16().count();
        return Ok(Value::Number(length as f64));
    }
    Err(Failure::Here(format!(
        "`.{}` is not offered; values have `.length`, and names with dots begin with `defaults.` or `inputs.`",
        crate::error::shorten(&key)
    )))
}

fn binary(operator: Operator, left: &Node, right: &Node, scope: &mut dyn Scope) -> Result<Value, Failure> {
    let left = evaluate(left, scope)?;
    match operator {
        Operator::Or if left.truthy() => return Ok(left),
        Operator::And if !left.truthy() => return Ok(left),
        _ => {}
    }
    let right = evaluate(right, scope)?;
    if matches!(operator, Operator::Or | Operator::And) {
        return Ok(right);
    }
    scope.charge((left.weight() + right.weight()) as u64)?;
    Ok(Value::Bool(match operator {
        Operator::StrictlyEqual => left.strictly_equals(&right),
        Operator::StrictlyUnequal => !left.strictly_equals(&right),
        Operator::Equal => left.loosely_equals(&right),
        Operator::Unequal => !left.loosely_equals(&right),
        Operator::Less => left.compare(&right).is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => left.compare(&right).is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => left.compare(&right).is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => left.compare(&right).is_some_and(std::cmp::Ordering::is_ge),
        Operator::Add | Operator::Or | Operator::And => return add(&left, &right),
    }))
}

fn add(left: &Value, right: &Value) -> Result<Value, Failure> {
    if !left.is_text() && !right.is_text() {
        return Ok(Value::Number(left.to_number() + right.to_number()));
    }
    let (left, right) = (left.to_text(), right.to_text());
    bounded(left.len() + right.len())?;
    Ok(Value::text([&*left, &*right].concat()))
}

/// Refuses a text of more bytes than a value may have.
fn bounded(bytes: usize) -> Result<(), Failure> {
    if bytes <= limits::VALUE_BYTES {
        return Ok(());
    }
    Err(Failure::Here(format!(
        "the result exceeds the limit of {} bytes for one value; make it shorter",
        limits::VALUE_BYTES
    )))
}

fn call(name: &str, arguments: &[Node], scope: &mut dyn Scope) -> Result<Value, Failure> {
    match (name, arguments) {
        ("random", [count]) => {
            let count = evaluate(count, scope)?.to_number();
            if !(count.fract() == 0.0 && (1.0..=limits::RANDOM_LETTERS as f64).contains(&count)) {
                return Err(Failure::Here(format!(
                    "random(n) makes 1 to {} letters, not {count}",
                    limits::RANDOM_LETTERS
                )));
            }
            scope.charge(count as u64)?;
            Ok(Value::text(scope.letters(count as usize)))
        }
        ("base64", [text]) => {
            let text = evaluate(text, scope)?.to_output();
            scope.charge(text.len() as u64)?;
            bounded(text.len().div_ceil(3) * 4)?;
            use base64::Engine as _;
            Ok(Value::text(base64::engine::general_purpose::STANDARD.encode(text.as_bytes())))
        }
        ("random" | "base64", _) => Err(Failure::Here(format!(
            "{name}() takes one argument, not {}; write `random(8)` or `base64(inputs.x)`",
            arguments.len()
        ))),
        ("if" | "elif" | "elseif" | "else" | "endif", _) => Err(Failure::Here(format!(
            "`{name}` stands on a line of its own; in a string write `condition ? a : b`"
        ))),
        _ => Err(Failure::NotDefined {
            name: format!("{name}()"),
            group: "functions",
            known: vec!["random(n)".to_owned(), "base64(s)".to_owned()],
        }),
    }
}
