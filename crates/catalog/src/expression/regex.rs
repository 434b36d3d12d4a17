//! JavaScript's regular expressions on the `regex` crate, whose searches take
//! linear time. What is spelled otherwise is translated; what that crate can't
//! do (looking around, back references) or means otherwise is refused.

use regex::{Captures, Regex, RegexBuilder};

use super::{Failure, bounded};
use crate::limits;

/// A pattern and whether it replaces every match.
pub(super) fn compile(pattern: &str, flags: &str) -> Result<(Regex, bool), Failure> {
    let (mut every, mut fold_case, mut lines, mut dot_all) = (false, false, false, false);
    for flag in flags.chars() {
        match flag {
            'g' => every = true,
            'i' => fold_case = true,
            'm' => lines = true,
            's' => dot_all = true,
            'u' => {}
            _ => {
                return Err(refuse(
                    pattern,
                    &format!("the flag `{flag}` is not offered; g, i, m, s and u are"),
                ));
            }
        }
    }
    let translated = translate(pattern, dot_all).map_err(|problem| refuse(pattern, &problem))?;
    let regex = build(RegexBuilder::new(&translated).case_insensitive(fold_case).multi_line(lines))
        .map_err(|problem| refuse(pattern, &problem))?;
    Ok((regex, every))
}

fn build(builder: &mut RegexBuilder) -> Result<Regex, String> {
    builder
        .size_limit(limits::REGEX_BYTES)
        .dfa_size_limit(limits::REGEX_BYTES)
        .nest_limit(64)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("it exceeds the limit of {} bytes; make it simpler", limits::REGEX_BYTES)
            }
            // The last line of a syntax error says what is wrong.
            other => other.to_string().lines().last().unwrap_or("it can't be read").trim().to_owned(),
        })
}

fn refuse(pattern: &str, problem: &str) -> Failure {
    Failure::Here(format!("the regular expression `/{}/`: {problem}", crate::error::shorten(pattern)))
}

fn translate(pattern: &str, dot_all: bool) -> Result<String, String> {
    let mut result = String::new();
    let mut class = false;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => escape(characters.next(), class, &mut result)?,
            '[' if class => result.push_str("\\["),
            '[' => {
                class = true;
                result.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    result.push('^');
                }
                if characters.peek() == Some(&']') {
                    return Err("an empty class is not offered; name its characters".to_owned());
                }
            }
            ']' if class => {
                class = false;
                result.push(']');
            }
            // Two of them in a row are operators there.
            '&' | '~' if class => {
                result.push('\\');
                result.push(character);
            }
            '-' if class && characters.peek() == Some(&'-') => {
                return Err("`--` in a class is not offered; write `\\-`".to_owned());
            }
            '.' if !class => {
                result.push_str(if dot_all { "(?s:.)" } else { r"[^\n\r\u{2028}\u{2029}]" });
            }
            '(' if !class => {
                result.push('(');
                group(&mut characters, &mut result)?;
            }
            other => result.push(other),
        }
    }
    Ok(result)
}

/// What may stand after `(`.
fn group(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    result: &mut String,
) -> Result<(), String> {
    if characters.next_if_eq(&'?').is_none() {
        return Ok(());
    }
    match characters.next() {
        Some(':') => result.push_str("?:"),
        Some('<') if !matches!(characters.peek(), Some('=' | '!')) => result.push_str("?<"),
        _ => return Err("looking ahead or behind is not offered; match the whole text instead".to_owned()),
    }
    Ok(())
}

fn escape(escaped: Option<char>, class: bool, result: &mut String) -> Result<(), String> {
    match escaped {
        None => return Err("`\\` is missing its character at the end".to_owned()),
        // ASCII, as in JavaScript.
        Some('d') => result.push_str(if class { "0-9" } else { "[0-9]" }),
        Some('D') => result.push_str("[^0-9]"),
        Some('w') => result.push_str(if class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        Some('W') => result.push_str("[^0-9A-Za-z_]"),
        Some('b') if !class => result.push_str(r"(?-u:\b)"),
        Some('0') => result.push_str(r"\x00"),
        Some('1'..='9') => {
            return Err("back references are not offered; spell the text out".to_owned());
        }
        Some(letter @ ('s' | 'S' | 'n' | 'r' | 't' | 'f' | 'v' | 'x' | 'u')) => {
            result.push('\\');
            result.push(letter);
        }
        Some(letter) if letter.is_ascii_alphanumeric() => {
            return Err(format!("`\\{letter}` is not offered; \\d, \\w, \\s, \\b and their like are"));
        }
        Some(other) if other.is_ascii_punctuation() && other != '<' && other != '>' => {
            result.push('\\');
            result.push(other);
        }
        Some(other) => result.push(other),
    }
    Ok(())
}

/// Appends a replacement with its `$1`, `$&`, `$<name>` and `$$` filled in.
pub(super) fn expand(
    replacement: &str,
    text: &str,
    whole: std::ops::Range<usize>,
    captures: Option<&Captures<'_>>,
    result: &mut String,
) -> Result<(), Failure> {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (filled, length) = match after.as_bytes().first() {
            Some(b'$') => ("$", 1),
            Some(b'&') => (&text[whole.clone()], 1),
            Some(b'`') => (&text[..whole.start], 1),
            Some(b'\'') => (&text[whole.end..], 1),
            Some(b'1'..=b'9') => captures.map_or(("$", 0), |captures| numbered(after, captures)),
            Some(b'<') => captures.map_or(("$", 0), |captures| named(after, captures)),
            _ => ("$", 0),
        };
        result.push_str(filled);
        bounded(result.len())?;
        rest = &after[length..];
    }
    result.push_str(rest);
    Ok(())
}

/// `$12` is the twelfth group if there is one, else the first and a `2`.
fn numbered<'a>(after: &str, captures: &Captures<'a>) -> (&'a str, usize) {
    for length in [2, 1] {
        let number = after.get(..length).and_then(|digits| digits.parse::<usize>().ok());
        if let Some(number) = number.filter(|number| (1..captures.len()).contains(number)) {
            return (captures.get(number).map_or("", |found| found.as_str()), length);
        }
    }
    ("$", 0)
}

fn named<'a>(after: &str, captures: &Captures<'a>) -> (&'a str, usize) {
    match after.find('>') {
        Some(end) => (captures.name(&after[1..end]).map_or("", |found| found.as_str()), end + 1),
        None => ("$", 0),
    }
}
