//! Pieces of nginx' configuration. They are never run: the few that app templates
//! carry are recognised and done in our own way, and every other one is told of.

use std::iter::Peekable;
use std::str::CharIndices;

use http::{HeaderName, HeaderValue, header};
use regex::Regex;

use super::{Annotations, value};
use crate::expression::regex;
use crate::extra::{ResponseRule, replace};
use crate::route::HeaderEdit;

/// A snippet longer than this is not read.
const LONGEST: usize = 16 << 10;
/// Blocks within blocks.
const DEEPEST: usize = 8;
/// What `expires max` means.
const TEN_YEARS: u64 = 315_360_000;

/// Buffers grow as they are needed; the limits of headers are the gateway's own.
const NEEDLESS: [&str; 26] = [
    "brotli_comp_level",
    "brotli_min_length",
    "brotli_types",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "gzip_buffers",
    "gzip_comp_level",
    "gzip_disable",
    "gzip_http_version",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "large_client_header_buffers",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_http_version",
    "proxy_request_buffering",
    "proxy_max_temp_file_size",
    "sendfile",
    "tcp_nodelay",
    "tcp_nopush",
    "underscores_in_headers",
];

/// What every backend is told anyway, and truly.
const TOLD: [&str; 9] = [
    "host",
    "upgrade",
    "connection",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-scheme",
];

#[derive(Debug, PartialEq, Eq)]
struct Directive {
    words: Vec<String>,
    /// What is between braces.
    block: Option<Vec<Directive>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// Splits as nginx does: words, quoted or not, `;`, braces, comments.
struct Tokens<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable() }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, String> {
        let mut word = String::new();
        while let Some((_, next)) = self.rest.next() {
            match next {
                _ if next == quote => return Ok(Token::Word(word)),
                '\\' => match self.rest.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => word.push(escaped),
                    // Anything else is the expression's own backslash.
                    Some((_, other)) => word.extend(['\\', other]),
                    None => break,
                },
                _ => word.push(next),
            }
        }
        Err("a quotation mark is not closed".to_owned())
    }

    fn bare(&mut self, start: usize) -> Token {
        let mut variable = false;
        let end = loop {
            match self.rest.peek() {
                None => break self.text.len(),
                // `${name}` is a part of a word.
                Some((at, '{')) if !variable => break *at,
                Some((at, char)) if char.is_whitespace() || *char == ';' => break *at,
                Some((_, '\\')) => {
                    self.rest.next();
                    self.rest.next();
                    variable = false;
                }
                Some((_, char)) => {
                    variable = *char == '$';
                    self.rest.next();
                }
            }
        };
        Token::Word(self.text.get(start..end).unwrap_or_default().to_owned())
    }

    fn next(&mut self) -> Result<Option<Token>, String> {
        loop {
            let Some((start, char)) = self.rest.peek().copied() else { return Ok(None) };
            match char {
                _ if char.is_whitespace() => {
                    self.rest.next();
                }
                '#' => while self.rest.next_if(|(_, char)| *char != '\n').is_some() {},
                ';' | '{' | '}' => {
                    self.rest.next();
                    return Ok(Some(match char {
                        ';' => Token::End,
                        '{' => Token::Open,
                        _ => Token::Close,
                    }));
                }
                '"' | '\'' => {
                    self.rest.next();
                    return self.quoted(char).map(Some);
                }
                _ => return Ok(Some(self.bare(start))),
            }
        }
    }
}

fn parse(text: &str) -> Result<Vec<Directive>, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    directives(&mut Tokens::new(text), 0)
}

fn directives(tokens: &mut Tokens<'_>, depth: usize) -> Result<Vec<Directive>, String> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    loop {
        match tokens.next()? {
            Some(Token::Word(word)) => words.push(word),
            Some(Token::End) if words.is_empty() => {}
            Some(Token::End) => all.push(Directive { words: std::mem::take(&mut words), block: None }),
            Some(Token::Open) => {
                if words.is_empty() || depth == DEEPEST {
                    return Err("a brace is where none can be".to_owned());
                }
                let block = Some(directives(tokens, depth + 1)?);
                all.push(Directive { words: std::mem::take(&mut words), block });
            }
            Some(Token::Close) if depth > 0 && words.is_empty() => return Ok(all),
            Some(Token::Close) => return Err("a brace or a semicolon is missing".to_owned()),
            None if depth == 0 && words.is_empty() => return Ok(all),
            None => return Err("it ends within a directive".to_owned()),
        }
    }
}

/// Reads a snippet into what its Ingress asks for.
pub(super) fn read(name: &str, text: &str, out: &mut Annotations) {
    let directives = match parse(text) {
        Ok(directives) => directives,
        Err(error) => {
            out.notes.push(format!("annotation {name}: {error}; all of it is ignored"));
            return;
        }
    };
    for directive in &directives {
        if let Err(remedy) = translate(directive, out) {
            let words = directive.words.first().map(String::as_str).unwrap_or_default();
            out.notes.push(format!(
                "annotation {name}: {words}: snippets are not run and this one is ignored; {remedy}"
            ));
        }
    }
}

const HEADERS: &str = "use an HTTPRoute to change headers";

fn translate(directive: &Directive, out: &mut Annotations) -> Result<(), &'static str> {
    let words: Vec<&str> = directive.words.iter().map(String::as_str).collect();
    let limits = &mut out.limits;
    match (words.as_slice(), &directive.block) {
        ([name, ..], None) if NEEDLESS.contains(name) => {}
        (["client_max_body_size", size], None) => {
            let size = value::size(size).ok_or("write a size, such as 8m")?;
            limits.body = Some(size).filter(|bytes| *bytes > 0);
        }
        (["gzip" | "brotli", word], None) => {
            out.compress = Some(value::flag(word).ok_or("write on or off")?);
        }
        (["proxy_connect_timeout", time], None) => limits.connect = Some(timeout(time)?),
        (["proxy_read_timeout", time], None) => limits.read = Some(timeout(time)?),
        (["proxy_send_timeout", time], None) => limits.send = Some(timeout(time)?),
        (["proxy_set_header", name, value], None) => {
            let told = TOLD.iter().any(|told| told.eq_ignore_ascii_case(name));
            if told && (value.contains('$') || value.eq_ignore_ascii_case("upgrade")) {
                return Ok(());
            }
            if value.is_empty() {
                out.request_headers.remove.push(header_name(name)?);
            } else {
                out.request_headers.set.push((header_name(name)?, header_value(value)?));
            }
        }
        (["more_set_input_headers", lines @ ..], None) => {
            for line in lines {
                edit(line, &mut out.request_headers)?;
            }
        }
        (["more_clear_input_headers", names @ ..], None) => {
            for name in names {
                out.request_headers.remove.push(cleared(name)?);
            }
        }
        (["if", condition @ ..], Some(block)) => {
            let request = Some(expression(condition)?);
            // All of a block or nothing: half of it would be something else.
            let rules: Result<Vec<_>, _> = block
                .iter()
                .map(|inner| {
                    if inner.block.is_some() {
                        return Err("use an HTTPRoute for what depends on the request");
                    }
                    response(&inner.words.iter().map(String::as_str).collect::<Vec<_>>())
                })
                .collect();
            for rule in rules?.into_iter().flatten() {
                out.extra.responses.push(ResponseRule { request: request.clone(), ..rule });
            }
        }
        (words, None) => out.extra.responses.extend(response(words)?),
        (_, Some(_)) => return Err("write it as paths of the Ingress"),
    }
    Ok(())
}

/// What changes an answer's headers; None: it changes nothing.
fn response(words: &[&str]) -> Result<Option<ResponseRule>, &'static str> {
    let rule = |only_usual, edit| Ok(Some(ResponseRule { request: None, only_usual, edit }));
    match words {
        ["expires", "off"] => Ok(None),
        ["expires", time] => rule(true, expires(time)?),
        ["add_header", name, value] | ["add_header", name, value, "always"] => {
            let add = vec![(header_name(name)?, header_value(value)?)];
            rule(words.len() == 3, HeaderEdit { add, ..HeaderEdit::default() })
        }
        ["proxy_hide_header", name] => {
            rule(false, HeaderEdit { remove: vec![header_name(name)?], ..HeaderEdit::default() })
        }
        // Both take options, for some answers only, which are not told apart here.
        ["more_set_headers", lines @ ..] if lines.iter().all(|line| !line.starts_with('-')) => {
            let mut all = HeaderEdit::default();
            for line in lines {
                edit(line, &mut all)?;
            }
            rule(false, all)
        }
        ["more_clear_headers", names @ ..] if names.iter().all(|name| !name.starts_with('-')) => {
            let remove = names.iter().map(|name| cleared(name)).collect::<Result<_, _>>()?;
            rule(false, HeaderEdit { remove, ..HeaderEdit::default() })
        }
        ["more_set_headers" | "more_clear_headers" | "add_header", ..] => Err(HEADERS),
        _ => Err("remove it, or use what docs/gateway.md names"),
    }
}

fn timeout(text: &str) -> Result<std::time::Duration, &'static str> {
    value::timeout(text).ok_or("write a time, such as 60s")
}

/// `($request_uri ~* \.(js|css))`: with the path and the query as they were sent.
fn expression(words: &[&str]) -> Result<Regex, &'static str> {
    const REMEDY: &str = "only ($request_uri ~* EXPRESSION) is understood";
    let line = words.join(" ");
    let inside = line.strip_prefix('(').and_then(|line| line.strip_suffix(')')).ok_or(REMEDY)?;
    let (subject, rest) = inside.trim().split_once(' ').ok_or(REMEDY)?;
    let (operator, pattern) = rest.trim().split_once(' ').ok_or(REMEDY)?;
    let ignore_case = match operator {
        "~*" => true,
        "~" => false,
        _ => return Err(REMEDY),
    };
    if subject != "$request_uri" || pattern.trim().is_empty() {
        return Err(REMEDY);
    }
    regex(pattern.trim(), ignore_case).map_err(|_| "its regular expression is too large, or is none here")
}

fn expires(text: &str) -> Result<HeaderEdit, &'static str> {
    let value = match text {
        "max" => format!("max-age={TEN_YEARS}"),
        "epoch" => "no-cache".to_owned(),
        _ if text.starts_with('-') => "no-cache".to_owned(),
        _ => {
            let time = value::time(text).ok_or("write a time, such as 30d")?;
            format!("max-age={}", time.as_secs())
        }
    };
    let value = HeaderValue::from_str(&value).map_err(|_| HEADERS)?;
    Ok(HeaderEdit { remove: vec![header::EXPIRES], ..replace(header::CACHE_CONTROL, value) })
}

fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    value::header_name(text).ok_or("it is no header that a route may change")
}

fn header_value(text: &str) -> Result<HeaderValue, &'static str> {
    if text.contains('$') {
        return Err("variables have no value here");
    }
    value::header_value(text).ok_or("its value is not one that a header can have")
}

/// `Name: value` sets a header and `Name:` or `Name` clears it.
fn edit(line: &str, into: &mut HeaderEdit) -> Result<(), &'static str> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let first = name.split_whitespace().next().unwrap_or_default();
    if TOLD.iter().any(|told| told.eq_ignore_ascii_case(first)) && line.contains('$') {
        return Ok(());
    }
    match value.trim() {
        "" => into.remove.push(header_name(name.trim())?),
        value => into.set.push((header_name(name.trim())?, header_value(value)?)),
    }
    Ok(())
}

/// Written with a colon or without.
fn cleared(name: &str) -> Result<HeaderName, &'static str> {
    header_name(name.trim().trim_end_matches(':'))
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, Uri};

    use super::*;

    fn show(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let words = directive.words.join("|");
            match &directive.block {
                Some(block) => format!("{words}{{{}}}", show(block)),
                None => words,
            }
        };
        directives.iter().map(one).collect::<Vec<_>>().join(";")
    }

    #[test]
    fn snippets_are_split_as_nginx_splits_them() {
        let check = |text: &str, wanted: Result<&str, &str>| {
            let parsed = parse(text);
            let shown = parsed.as_deref().map(show);
            assert_eq!(shown.as_deref().map_err(|error| error.as_str()), wanted, "{text}");
        };
        check("", Ok(""));
        check("a b;\n c 'd e' \"f;{}\"; # g h;\n;", Ok("a|b;c|d e|f;{}"));
        check(r#"a "say \"x\"" '\.js';"#, Ok(r#"a|say "x"|\.js"#));
        check(r"if ($request_uri ~* \.(js|css)$) { b; }", Ok(r"if|($request_uri|~*|\.(js|css)$){b}"));
        check("a ${b}c;d {e {f;}}", Ok("a|${b}c;d{e{f}}"));
        check("a b", Err("it ends within a directive"));
        check("a 'b;", Err("a quotation mark is not closed"));
        check("a { b }", Err("a brace or a semicolon is missing"));
        check("a; }", Err("a brace or a semicolon is missing"));
        check("{ a; }", Err("a brace is where none can be"));
        check(&"a {".repeat(100), Err("a brace is where none can be"));
        check(&"a;".repeat(LONGEST), Err("it is longer than 16384 bytes"));
        check("a \\", Err("it ends within a directive"));
        check("\u{e9} \u{4e16};", Ok("\u{e9}|\u{4e16}"));
    }

    fn read(text: &str) -> Annotations {
        let mut out = Annotations::default();
        super::read("configuration-snippet", text, &mut out);
        out
    }

    /// What is done to the headers of an answer that is not an error.
    fn edited(text: &str, uri: &str, status: u16) -> Vec<String> {
        let out = read(text);
        assert_eq!(out.notes, [""; 0], "{text}");
        let (uri, status): (Uri, _) = (uri.parse().unwrap(), StatusCode::from_u16(status).unwrap());
        let rules = out.extra.responses.iter().filter(|rule| rule.applies(&uri, status));
        rules
            .flat_map(|rule| {
                let pair = |mark: &str, (name, value): &(HeaderName, HeaderValue)| {
                    format!("{mark}{name}: {}", value.to_str().unwrap())
                };
                let removed = rule.edit.remove.iter().map(|name| format!("-{name}"));
                let set = rule.edit.set.iter().map(|edit| pair("=", edit));
                removed.chain(set).chain(rule.edit.add.iter().map(|edit| pair("+", edit))).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn buffers_and_what_is_told_anyway_need_nothing() {
        let out = read(
            "client_header_buffer_size 64k; large_client_header_buffers 4 128k;
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Host $host;
             more_set_headers \"X-Forwarded-For $http_x_forwarded_for\"; proxy_buffering off;",
        );
        assert_eq!(out.notes, [""; 0]);
        assert!(out.request_headers.set.is_empty());
        assert!(
            out.extra.responses.iter().all(|rule| rule.edit.set.is_empty() && rule.edit.remove.is_empty())
        );
    }

    #[test]
    fn static_files_may_be_kept_by_browsers() {
        let text = r#"if ($request_uri ~* \.(js|css|gif|jpe?g|png)) {
          expires 30d;
          add_header Cache-Control "public";
        }"#;
        let kept = ["-expires", "=cache-control: max-age=2592000", "+cache-control: public"];
        assert_eq!(edited(text, "/a/b.JS?v=1", 200), kept);
        assert_eq!(edited(text, "/a/b.js", 404), [""; 0]);
        assert_eq!(edited(text, "/a/b.html", 200), [""; 0]);
        assert_eq!(edited("expires -1;", "/", 200), ["-expires", "=cache-control: no-cache"]);
        assert_eq!(edited("expires max;", "/", 200), ["-expires", "=cache-control: max-age=315360000"]);
        assert_eq!(edited("expires off;", "/", 200), [""; 0]);
        assert_eq!(edited("add_header A b;", "/", 500), [""; 0]);
        assert_eq!(edited("add_header A b always;", "/", 500), ["+a: b"]);
    }

    #[test]
    fn headers_are_set_and_cleared() {
        let text = r#"more_clear_headers "X-Frame-Options:" 'X-Powered-By';
            more_set_headers "Content-Security-Policy: frame-ancestors https://a:8443 'self'" "A: b" "C:";
            proxy_hide_header Server;"#;
        let wanted = [
            "-x-frame-options",
            "-x-powered-by",
            "-c",
            "=content-security-policy: frame-ancestors https://a:8443 'self'",
            "=a: b",
            "-server",
        ];
        assert_eq!(edited(text, "/", 500), wanted);
        let out = read("proxy_set_header A b; proxy_set_header C ''; more_set_input_headers 'D: e';");
        assert_eq!(out.notes, [""; 0]);
        assert_eq!((out.request_headers.set.len(), out.request_headers.remove.len()), (2, 1));
    }

    #[test]
    fn compression_may_be_written_in_a_snippet() {
        let out = read("gzip on; gzip_types text/css application/json; gzip_min_length 1000; gzip_vary on;");
        assert_eq!((out.compress, out.notes.len()), (Some(true), 0));
        assert_eq!(read("gzip on; brotli off;").compress, Some(false));
        assert!(read("gzip maybe;").notes[0].contains("write on or off"));
        assert_eq!(read("").compress, None);
    }

    #[test]
    fn limits_may_be_written_in_a_snippet() {
        let out = read("client_max_body_size 8m; proxy_read_timeout 1h; proxy_send_timeout 5;");
        assert_eq!(out.limits.body, Some(8 << 20));
        assert_eq!(out.limits.read.unwrap().as_secs(), 3600);
        assert_eq!(read("client_max_body_size 0;").limits.body, None);
    }

    #[test]
    fn what_is_not_understood_is_told_and_does_nothing() {
        for (text, saying) in [
            ("return 200 'x';", "return: snippets are not run"),
            ("location / { return 200; }", "location: snippets are not run"),
            ("if ($host = a) { return 200; }", "only ($request_uri"),
            ("if ($request_uri ~* (a) { expires 1d; }", "regular expression"),
            ("if ($request_uri ~* a) { expires 1d; return 200; }", "if: snippets are not run"),
            ("if ($request_uri ~* a) { if ($request_uri ~* b) { expires 1d; } }", "depends on the request"),
            ("more_set_headers -s 404 'A: b';", "use an HTTPRoute"),
            ("more_set_headers 'Content-Length: 5';", "no header that a route may change"),
            ("proxy_set_header Transfer-Encoding chunked;", "no header that a route may change"),
            ("proxy_set_header X-Up $upstream;", "variables have no value"),
            ("add_header X-A \"a\r\nb\";", "can have"),
            ("proxy_read_timeout soon;", "write a time"),
            ("expires", "it ends within a directive; all of it is ignored"),
            ("load_module x; lua_x { y; }", "load_module: snippets are not run"),
        ] {
            let out = read(text);
            assert!(out.notes.iter().any(|note| note.contains(saying)), "{text}: {:?}", out.notes);
            assert!(out.notes.iter().all(|note| note.starts_with("annotation configuration-snippet: ")));
            assert!(out.extra.is_empty() && out.request_headers.set.is_empty(), "{text}");
        }
    }
}
