//! The install form: one field for each input, checked as the catalog will.

use api::http::InputView;

/// How a field is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A line of text.
    Text,
    /// A line of text that nobody should read over a shoulder.
    Secret,
    /// A number.
    Number,
    /// A whole number.
    Whole,
    /// A box to tick.
    Switch,
    /// One of several.
    Choice,
}

/// The control for an input.
pub fn control(input: &InputView) -> Control {
    match input.kind.as_str() {
        "number" | "float" => Control::Number,
        "int" => Control::Whole,
        "boolean" => Control::Switch,
        "choice" => Control::Choice,
        _ if is_secret(&input.name) => Control::Secret,
        _ => Control::Text,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "api_key", "apikey"].iter().any(|word| name.contains(word))
}

/// An input's name as people read it: `admin_password` is `Admin password`.
pub fn label(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ");
    // Names in capitals are written so for programs.
    let spaced = if spaced.chars().any(char::is_lowercase) { spaced } else { spaced.to_lowercase() };
    let mut characters = spaced.trim().chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + characters.as_str()
}

/// What a field holds before anybody touched it: what can be seen and chosen is
/// set to the default, a line of text stays empty and shows it as a hint.
pub fn initial(input: &InputView) -> String {
    let default = input.default.clone().unwrap_or_default();
    match control(input) {
        Control::Switch => (default == "true").to_string(),
        Control::Choice if input.options.contains(&default) => default,
        _ => String::new(),
    }
}

/// What is sent for a field, or why it can't be: `None` leaves the default.
///
/// # Errors
///
/// What to change, as it is shown at the field.
pub fn check(input: &InputView, value: &str) -> Result<Option<String>, String> {
    let control = control(input);
    let value = if matches!(control, Control::Text | Control::Secret) { value } else { value.trim() };
    if value.trim().is_empty() {
        let has_default = input.default.as_ref().is_some_and(|default| !default.is_empty());
        return match (input.required && !has_default, control) {
            (false, _) => Ok(None),
            (true, Control::Choice) => Err("Choose one of these.".to_owned()),
            (true, _) => Err("This is needed. Fill it in.".to_owned()),
        };
    }
    let decimal = || value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match control {
        Control::Number if !decimal() || !value.parse::<f64>().is_ok_and(f64::is_finite) => {
            Err("This is not a number. Write one such as 10 or 0.5.".to_owned())
        }
        Control::Whole if value.parse::<i64>().is_err() => {
            Err("This is not a whole number. Write one such as 10.".to_owned())
        }
        Control::Choice if !input.options.iter().any(|option| option == value) => {
            Err("Choose one of these.".to_owned())
        }
        _ => Ok(Some(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(kind: &str, default: Option<&str>, required: bool) -> InputView {
        InputView {
            name: "size".to_owned(),
            description: String::new(),
            kind: kind.to_owned(),
            default: default.map(str::to_owned),
            required,
            options: vec!["small".to_owned(), "large".to_owned()],
        }
    }

    #[test]
    fn what_is_needed_must_be_there() {
        for kind in ["string", "number", "int", "choice"] {
            assert!(check(&input(kind, None, true), " ").is_err(), "{kind}");
            assert_eq!(check(&input(kind, None, false), ""), Ok(None), "{kind}");
            assert_eq!(check(&input(kind, Some("1"), true), ""), Ok(None), "{kind}: the default does");
            assert!(check(&input(kind, Some(""), true), "").is_err(), "{kind}: an empty default doesn't");
        }
    }

    #[test]
    fn each_kind_takes_its_own() {
        for (kind, value, good) in [
            ("string", " as it is ", true),
            ("number", "0.5", true),
            ("number", "1e3", true),
            ("number", "inf", false),
            ("number", "1,5", false),
            ("int", "10", true),
            ("int", "1.5", false),
            ("boolean", "true", true),
            ("choice", "large", true),
            ("choice", "huge", false),
        ] {
            let checked = check(&input(kind, None, true), value);
            assert_eq!(checked.is_ok(), good, "{kind} {value}");
            if good {
                assert_eq!(checked, Ok(Some(value.to_owned())));
            }
        }
    }

    #[test]
    fn a_form_begins_with_what_can_be_seen_of_the_defaults() {
        assert_eq!(initial(&input("choice", Some("large"), true)), "large");
        assert_eq!(initial(&input("choice", Some("huge"), true)), "");
        assert_eq!(initial(&input("boolean", Some("true"), false)), "true");
        assert_eq!(initial(&input("boolean", None, false)), "false");
        assert_eq!(initial(&input("string", Some("x"), false)), "");
    }

    #[test]
    fn names_are_readable() {
        for (name, text) in [
            ("host", "Host"),
            ("admin_password", "Admin password"),
            ("DB-SIZE", "Db size"),
            ("maxGiB", "MaxGiB"),
            ("", ""),
        ] {
            assert_eq!(label(name), text);
        }
    }

    #[test]
    fn secrets_are_hidden() {
        let mut secret = input("string", None, true);
        secret.name = "ADMIN_PASSWORD".to_owned();
        assert_eq!(control(&secret), Control::Secret);
    }
}
