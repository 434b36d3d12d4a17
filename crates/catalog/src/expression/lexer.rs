//! An expression's text as tokens, and where an expression ends in a line.

/// One word of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a keyword.
    Name(String),
    /// A string literal, escapes resolved.
    Text(String),
    /// A number literal.
    Number(f64),
    /// A regular expression literal: pattern and flags.
    Regex(String, String),
    /// An operator or a bracket.
    Symbol(&'static str),
}

impl Token {
    /// The token as a message names it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{}`", crate::error::shorten(name)),
            Self::Text(text) => format!("'{}'", crate::error::shorten(text)),
            Self::Number(number) => format!("`{number}`"),
            Self::Regex(pattern, flags) => format!("`/{}/{flags}`", crate::error::shorten(pattern)),
            Self::Symbol(symbol) => format!("`{symbol}`"),
        }
    }
}

/// Longest first, so that `===` is not read as `==` and `=`.
const SYMBOLS: [&str; 22] = [
    "===", "!==", "==", "!=", "<=", ">=", "&&", "||", "!", "<", ">", "+", "-", "?", ":", "(", ")", "[", "]",
    ",", ".", "=",
];

/// Splits an expression into tokens; a refusal says what is wrong.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            'A'..='Z' | 'a'..='z' | '_' | '$' => name(rest),
            '0'..='9' => number(rest)?,
            '\'' | '"' => text(rest, first)?,
            '/' => regex(rest)?,
            '`' => return Err("template literals are not offered; join strings with `+`".to_owned()),
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(&"=") => return Err("`=` assigns nothing here; compare with `===`".to_owned()),
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => return Err(format!("`{}` has no meaning in an expression", first.escape_debug())),
            },
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

fn name(rest: &str) -> (Token, usize) {
    let length = rest
        .find(|character: char| !(character.is_ascii_alphanumeric() || character == '_' || character == '$'))
        .unwrap_or(rest.len());
    (Token::Name(rest[..length].to_owned()), length)
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let digits = |from: usize| from + rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(0);
    if rest[length..].starts_with('.') && digits(length + 1) > length + 1 {
        length = digits(length + 1);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
        let end = digits(length + 1 + sign);
        if end > length + 1 + sign {
            length = end;
        }
    }
    if rest[length..].starts_with(|character: char| character.is_ascii_alphanumeric() || character == '_') {
        return Err(format!("`{}` is not a number; write it in decimal", crate::error::shorten(rest)));
    }
    let number = rest[..length].parse().map_err(|_| "a number can't be read".to_owned())?;
    Ok((Token::Number(number), length))
}

fn text(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Ok((Token::Text(text), at + 1));
        }
        if character != '\\' {
            text.push(character);
            continue;
        }
        let Some((at, escaped)) = characters.next() else { break };
        match escaped {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            'x' | 'u' => {
                let (code, digits) = code_point(&rest[at + 1..], escaped)
                    .ok_or_else(|| format!("`\\{escaped}` needs the hexadecimal code of a character"))?;
                text.push(code);
                for _ in 0..digits {
                    characters.next();
                }
            }
            '0'..='9' => return Err("octal escapes are not offered; write `\\x..`".to_owned()),
            other => text.push(other),
        }
    }
    Err(format!("a string is never closed; end it with {quote}"))
}

/// The character of `\xHH`, `\uHHHH` or `\u{H…}`, and how many characters
/// spell it after the letter.
fn code_point(rest: &str, letter: char) -> Option<(char, usize)> {
    let (digits, spelled) = if letter == 'x' {
        (rest.get(..2)?, 2)
    } else if let Some(braced) = rest.strip_prefix('{') {
        let digits = braced.get(..braced.find('}').filter(|length| (1..=6).contains(length))?)?;
        (digits, digits.len() + 2)
    } else {
        (rest.get(..4)?, 4)
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, spelled))
}

fn regex(rest: &str) -> Result<(Token, usize), String> {
    let end =
        regex_end(rest).ok_or_else(|| "a regular expression is never closed; end it with `/`".to_owned())?;
    let (flags, length) = match name(&rest[end + 1..]) {
        (Token::Name(flags), length) => (flags, length),
        _ => (String::new(), 0),
    };
    Ok((Token::Regex(rest[1..end].to_owned(), flags), end + 1 + length))
}

/// Where the `/` that closes a regular expression stands; `rest` begins with
/// the one that opens it.
fn regex_end(rest: &str) -> Option<usize> {
    let (mut class, mut escaped) = (false, false);
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => class = true,
            b']' => class = false,
            b'/' if !class => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the `}}` that ends an expression stands in the rest of a line after
/// `${{`. One inside a string or a regular expression doesn't end it, unless
/// that string is itself never closed.
pub(crate) fn end(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            quote @ (b'\'' | b'"') => match text_end(bytes, at, quote) {
                Some(end) => at = end,
                None => break,
            },
            b'/' => match regex_end(&rest[at..]) {
                Some(length) => at += length,
                None => break,
            },
            _ => {}
        }
        at += 1;
    }
    rest.find("}}")
}

fn text_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}
