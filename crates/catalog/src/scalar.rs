//! The type of a scalar that was written without quotes.

use serde_json::{Number, Value};

/// The value of a plain scalar in the source, as Kubernetes reads YAML: `0644`
/// is octal, `yes` is a string.
pub(crate) fn literal(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Value::from);
    let all =
        |digits: &str, digit: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(digit);
    let special = match unsigned.as_bytes() {
        [b'0', b'x', ..] if text == unsigned && all(&text[2..], u8::is_ascii_hexdigit) => {
            radix(&text[2..], 16)
        }
        [b'0', b'o', ..] if text == unsigned && all(&text[2..], u8::is_ascii_digit) => radix(&text[2..], 8),
        [b'0', _, ..] if text == unsigned && all(text, u8::is_ascii_digit) => radix(&text[1..], 8),
        _ => None,
    };
    special.unwrap_or_else(|| computed(text.strip_prefix('+').unwrap_or(text)))
}

/// The value of a plain scalar that is one expression's result: a number or a
/// boolean if the text is just how one is written, else the text itself. A
/// number that can't be kept exactly, or begins with a needless zero, is text.
pub(crate) fn computed(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::from(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    if whole == 0 || (whole > 1 && digits.starts_with('0')) {
        return None;
    }
    if whole == digits.len() {
        return text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
    }
    let mut rest = &digits[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|character: char| character.is_ascii_digit());
        if rest.len() == fraction.len() {
            return None;
        }
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    text.parse().ok().and_then(Number::from_f64)
}
