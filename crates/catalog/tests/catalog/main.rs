//! What a template's author and its user can rely on.

// Helpers outside of `#[test]` functions unwrap as well.
#![allow(clippy::unwrap_used)]

mod bounds;
mod errors;
mod expressions;
mod injection;
mod templates;

use std::collections::BTreeMap;

use catalog::{App, Context, Error, Template};
use serde_json::Value;

fn context() -> Context {
    Context {
        namespace: "team-abcdef".to_owned(),
        domain: "apps.example.org".to_owned(),
        port: ":8443".to_owned(),
        certificate_secret: "wildcard".to_owned(),
        service_account: "owner".to_owned(),
    }
}

/// Letters in the alphabet's order: `random(3)` is `abc`, then `def`.
fn alphabet() -> impl FnMut() -> u64 {
    let mut letter = 0;
    move || {
        letter = (letter + 1) % 26;
        // The middle of the letter's share of 32 bits.
        ((((letter + 25) % 26) << 32) / 26 + (1 << 26)) << 32
    }
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn evaluate(source: &str, values: &[(&str, &str)]) -> Result<App, Error> {
    let values: BTreeMap<String, String> =
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Template::parse(source)?.evaluate(&values, &context(), &mut alphabet())
}

/// Evaluates a template and compares one place of its objects with what is
/// expected: `1/spec/replicas` is of the second object, `=` stands for an error.
#[track_caller]
fn check(source: &str, values: &[(&str, &str)], expected: &[(&str, Value)]) {
    let app = evaluate(source, values).unwrap_or_else(|error| panic!("{error}"));
    for (path, value) in expected {
        let (index, path) = path.split_once('/').unwrap();
        let object = &app.objects[index.parse::<usize>().unwrap()];
        let found = object.pointer(&format!("/{path}")).cloned();
        assert_eq!(found.as_ref(), Some(value), "{path} of {object:#}");
    }
}

/// A template of one ConfigMap whose `data` is given, with inputs `host` and
/// `port`. The data begins on line 14.
fn with_data(data: &str) -> String {
    format!(
        "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {{name: small}}\nspec:\n  defaults:\n    \
         app_name: {{value: small}}\n  inputs:\n    port: {{default: '80'}}\n    host: {{default: Here}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: small}}\n{data}"
    )
}
