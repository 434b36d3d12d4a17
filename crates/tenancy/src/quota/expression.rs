//! What an object uses by an expression in CEL, the language of Kubernetes' own policies.
//!
//! `object` is the object. `quantity` reads a number or a quantity, `sum` adds a list of
//! them up; both give a `double`, since CEL doesn't mix kinds of numbers.

use std::sync::{Arc, OnceLock};

use cel::{Context, Env, ExecutionError, Program, Value};

use super::amount::{ONE, parse};

/// Why an expression gives no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is none.
    #[error("`{expression}` is no CEL expression: {why}")]
    Unreadable {
        /// The expression.
        expression: String,
        /// What was expected, and where.
        why: String,
    },
    /// The object lacks something, or has it in another form.
    #[error("`{expression}` can't be told of this object: {why}")]
    Unknown {
        /// The expression.
        expression: String,
        /// What went wrong.
        why: String,
    },
}

fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

fn compile(expression: &str) -> Result<Program, Fault> {
    environment().compile(expression).map_err(|errors| Fault::Unreadable {
        expression: expression.to_owned(),
        // The rest of it draws an arrow to the place.
        why: errors.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// Whether it is an expression at all.
///
/// # Errors
/// What is wrong with it.
pub fn check(expression: &str) -> Result<(), Fault> {
    compile(expression).map(drop)
}

/// What an object uses, in thousandths.
///
/// # Errors
/// Why nobody can say.
pub fn measure(expression: &str, object: &serde_json::Value) -> Result<i128, Fault> {
    let program = compile(expression)?;
    let evaluate = || {
        let mut context = Context::with_env(environment().clone());
        context.add_variable("object", object).map_err(|error| error.to_string())?;
        let added =
            context.add_function("quantity", |value: Value| double("quantity", &value)).and_then(|()| {
                context.add_function("sum", |list: Arc<Vec<Value>>| {
                    list.iter().map(|value| double("sum", value)).sum::<Result<f64, _>>()
                })
            });
        added.map_err(|error| error.to_string())?;
        let value = program.execute(&context).map_err(|error| error.to_string())?;
        thousandths(&value).ok_or_else(|| "it gives no number".to_owned())
    };
    evaluate().map_err(|why| Fault::Unknown { expression: expression.to_owned(), why })
}

// What is beyond a double's 53 bits, nine petabytes, loses its last digits.
#[allow(clippy::cast_precision_loss)]
fn double(function: &str, value: &Value) -> Result<f64, ExecutionError> {
    match value {
        Value::Float(number) => Ok(*number),
        other => thousandths(other)
            .map(|amount| amount as f64 / ONE as f64)
            .ok_or_else(|| ExecutionError::function_error(function, "neither a number nor a quantity")),
    }
}

// What is no number was sorted out, and what is too large stays so.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn thousandths(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number) * ONE),
        Value::UInt(number) => Some(i128::from(*number) * ONE),
        // A billionth is an error of the last bit, and no part of a thousandth.
        Value::Float(number) if number.is_finite() => Some((number * ONE as f64 - 1e-9).ceil() as i128),
        Value::String(text) => parse(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn gives(expression: &str, wanted: Result<i128, &str>) {
        let object = json!({ "spec": {
            "replicas": 3, "size": "1.5Gi", "share": 0.1, "debt": -2, "name": "x",
            "shards": [{ "size": "1Gi" }, { "size": "512Mi" }],
        } });
        match (measure(expression, &object), wanted) {
            (Ok(amount), Ok(wanted)) => assert_eq!(amount, wanted, "{expression}"),
            (Err(fault), Err(part)) => assert!(fault.to_string().contains(part), "{expression}: {fault}"),
            (got, wanted) => panic!("{expression}: {got:?}, and not {wanted:?}"),
        }
    }

    #[test]
    fn amounts_are_computed_from_what_the_object_says() {
        let gib = 1000 << 30;
        gives("object.spec.replicas", Ok(3000));
        gives("object.spec.size", Ok(gib * 3 / 2));
        gives("quantity(object.spec.replicas) * quantity(object.spec.size)", Ok(gib * 9 / 2));
        gives("sum(object.spec.shards.map(s, quantity(s.size)))", Ok(gib * 3 / 2));
        gives("sum(object.spec.shards.map(s, s.size))", Ok(gib * 3 / 2));
        gives("has(object.spec.replica) ? quantity(object.spec.replica) : 1.0", Ok(1000));
        gives("size(object.spec.shards)", Ok(2000));
        // A tenth three times is no more than three tenths, and a part counts as a whole one.
        gives("object.spec.share * 3.0", Ok(300));
        gives("quantity('1u')", Ok(1));
        gives("object.spec.debt", Ok(-2000));
    }

    #[test]
    fn what_nobody_can_say_is_a_fault() {
        gives("object.spec.", Err("is no CEL expression"));
        gives("object.spec.nothing", Err("No such key"));
        gives("object.spec.name", Err("it gives no number"));
        gives("quantity(object.spec.name)", Err("neither a number nor a quantity"));
        gives("object.spec.shards", Err("it gives no number"));
        gives("1.0 / 0.0", Err("it gives no number"));
        gives("gone(1)", Err("gone"));
        assert!(check("object.spec.size").is_ok() && check("object..size").is_err());
    }
}
