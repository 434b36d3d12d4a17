//! A value never becomes anything but the string it is.

use serde_json::json;

use super::{evaluate, fixture};

const ATTEMPTS: [&str; 24] = [
    "x\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: x}\n",
    "\n---\n",
    "x\nkind: ClusterRoleBinding",
    "x\n  kind: ClusterRoleBinding",
    "x\r\nkind: Secret",
    "x\u{2028}kind: Secret",
    "x\u{85}kind: Secret",
    "\"",
    "\"\nkind: ClusterRoleBinding\nx: \"",
    "'",
    "'\nkind: Secret\nx: '",
    "a: b",
    "a # b",
    "# b",
    "${{ defaults.app_name }}",
    "${{ if(true) }}",
    "\n${{ endif() }}\n",
    "slot0q0z",
    "}}, {\"kind\": \"Secret\"}, {{",
    "[a, b]",
    "{a: b}",
    "*alias &anchor !!tag",
    "| \n x",
    "\u{0}\u{7}\u{1b}\\n\\\" \u{feff}",
];

#[test]
fn a_value_stays_in_its_scalar() {
    let probe = fixture("probe");
    for attempt in ATTEMPTS {
        let app = evaluate(&probe, &[("needed", attempt), ("text", attempt)]).unwrap();
        assert_eq!(app.objects.len(), 1, "{attempt:?}");
        let object = &app.objects[0];
        assert_eq!(object["kind"], "ConfigMap");
        assert_eq!(object.as_object().unwrap().len(), 4, "{object:#}");
        let spec = &object["spec"];
        for place in ["plain", "single", "double"] {
            assert_eq!(spec[place], attempt, "{place}");
        }
        assert_eq!(spec["inner"], format!("a {attempt} b"));
        assert_eq!(spec["literal"], format!("{attempt}\n"));
        assert_eq!(spec["folded"], format!("{attempt}\n"));
        assert_eq!(spec["flow"], json!([attempt, {"k": attempt}]));
        assert_eq!(spec["keys"], json!({attempt: "key"}));
    }
}

#[test]
fn a_value_stays_in_a_condition() {
    for attempt in ATTEMPTS {
        let app = evaluate(&fixture("worker"), &[("schedule", attempt)]).unwrap();
        assert_eq!(app.objects.len(), 4);
        assert_eq!(app.objects[0]["spec"]["schedule"], attempt);
    }
}

#[test]
fn a_source_that_looks_like_a_slot_is_text() {
    let source =
        super::with_data("spec: {a: slot0q0z, b: \"${{ inputs.host }}slot1q0zslot\", c: \"\\x73lot0q0z\"}\n");
    let app = evaluate(&source, &[]).unwrap();
    assert_eq!(app.objects[0]["spec"], json!({"a": "slot0q0z", "b": "Hereslot1q0zslot", "c": "slot0q0z"}));
}

#[test]
fn a_computed_key_does_not_replace_another() {
    let source = super::with_data("spec: {Here: 1, '${{ inputs.host }}': 2}\n");
    let error = evaluate(&source, &[]).unwrap_err().to_string();
    assert_eq!(error, "line 14: not valid YAML: the key `Here` stands there twice; remove one");
}
