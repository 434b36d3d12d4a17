//! Regular expressions that tenants write.

use regex::{Regex, RegexBuilder};

/// A compiled expression may take this much memory: nobody's pattern eats the
/// gateway's. Matching is linear in the text whatever the expression.
const SIZE: usize = 256 << 10;

pub(crate) fn regex(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .size_limit(SIZE)
        .dfa_size_limit(SIZE)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("the expression {pattern:?} is too large"),
            _ => format!("{pattern:?} is not a regular expression"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_explodes_is_refused() {
        assert!(regex("^/a(b|c)*", true).is_ok());
        assert_eq!(
            regex("^/(a{1000}){1000}", true).unwrap_err(),
            r#"the expression "^/(a{1000}){1000}" is too large"#
        );
        assert_eq!(regex("^/(", true).unwrap_err(), r#""^/(" is not a regular expression"#);
    }
}
