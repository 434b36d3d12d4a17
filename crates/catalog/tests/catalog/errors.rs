use catalog::{Error, Template};

use super::{evaluate, fixture, with_data};

#[track_caller]
fn check_error(source: &str, values: &[(&str, &str)], expected: &str) {
    let error = evaluate(source, values).expect_err(expected).to_string();
    assert!(error.contains(expected), "expected {expected:?} in {error:?} for\n{source}");
}

#[test]
fn inputs_are_checked() {
    let probe = fixture("probe");
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[], "input `needed` is required (What is needed); give it with --set needed=<string>"),
        (&[("needed", "")], "input `needed` is required"),
        (&[("needed", "x"), ("nope", "1")], "no input `nope`; inputs here are: text, number, int"),
        (&[("needed", "x"), ("number", "1O")], "input `number`: `1O` is not a number"),
        (&[("needed", "x"), ("number", "inf")], "is not a number"),
        (&[("needed", "x"), ("float", "NaN")], "is not a number"),
        (&[("needed", "x"), ("int", "1.5")], "is not a whole number"),
        (&[("needed", "x"), ("choice", "c")], "is not one of its options; they are: a, b"),
        (&[("needed", "x"), ("switch", "yes")], "is neither true nor false"),
        (&[("needed", "x"), ("int", "9999999999999999999999")], "is not a whole number"),
    ];
    for (values, expected) in cases {
        check_error(&probe, values, expected);
    }
    check_error(&fixture("board"), &[("store", "remote")], "input `remote_address` is required");
}

#[test]
fn the_template_document_is_checked() {
    let head = "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: x}\n";
    let cases = [
        ("", "first document is not a `Template`"),
        ("kind: Template\n", "apiVersion: `` is not `app.sealos.io/v1`"),
        ("apiVersion: app.sealos.io/v1\nkind: Deployment\n", "line 2: kind: `Deployment` is not `Template`"),
        ("apiVersion: app.sealos.io/v1\nkind: Template\n", "metadata.name"),
        (head, "spec: it is missing"),
        (
            &format!("{head}spec:\n  inputs:\n    a: {{type: strin}}\n"),
            "line 6: spec.inputs.a.type: `strin` is not a type",
        ),
        (&format!("{head}spec:\n  inputs:\n    a: {{type: choice}}\n"), "a choice needs options"),
        (&format!("{head}spec:\n  inputs:\n    a: {{required: maybe}}\n"), "neither true nor false"),
        (&format!("{head}spec:\n  inputs: [a]\n"), "spec.inputs: it is not a mapping"),
        (
            &format!("{head}spec:\n  inputs:\n    a: {{}}\n    a: {{}}\n"),
            "line 7: spec.inputs.a: the name stands there twice",
        ),
        (&format!("{head}spec:\n  defaults:\n    a: {{value: \"${{{{ 1 + }}}}\"}}\n"), "line 6: in `1 +`"),
        (&format!("{head}spec:\n  defaults:\n    a: {{value: [1]}}\n"), "not a single value"),
        (&format!("{head}spec:\n  title: ${{{{ x\n"), "line 5: `${{ x` is never closed"),
        (&format!("{head}spec:\n  a: b: c\n"), "line 5: not valid YAML"),
        (
            &format!("{head}spec:\n  inputs:\n    ${{{{ if(a) }}}}\n    a: {{}}\n"),
            "conditionals belong to the objects",
        ),
        (&format!("{head}spec: {{}}\n\0"), "line 5: not valid YAML: a zero byte"),
    ];
    for (source, expected) in cases {
        check_error(source, &[], expected);
    }
}

#[test]
fn names_that_need_each_other_are_refused() {
    let source = |names: &str| {
        format!("apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {{name: x}}\nspec:\n{names}")
    };
    let cases = [
        ("  defaults:\n    a: {value: '${{ defaults.a }}'}\n", "line 6: defaults.a -> defaults.a refer"),
        (
            "  defaults:\n    a: {value: '${{ defaults.b }}'}\n    b: {value: '${{ defaults.c }}'}\n    c: {value: '${{ defaults.b }}'}\n",
            "line 7: defaults.b -> defaults.c -> defaults.b refer",
        ),
        ("  inputs:\n    a: {default: '${{ inputs.a }}'}\n", "inputs.a -> inputs.a refer"),
        (
            "  inputs:\n    a: {if: inputs.b}\n    b: {if: inputs.a}\n",
            "inputs.a -> inputs.b -> inputs.a refer",
        ),
        ("  defaults:\n    a: {value: '${{ inputs.x }}'}\n  inputs: {x: {}}\n", "inputs are not known while"),
    ];
    for (names, expected) in cases {
        check_error(&source(names), &[], expected);
    }
    assert!(matches!(evaluate(&source(cases[0].0), &[]), Err(Error::Cycle { line: 6, .. })));
}

#[test]
fn conditionals_are_checked() {
    let cases = [
        ("${{ if(inputs.host) }}\n", "line 14: `if(inputs.host)`: the `if` is never closed"),
        ("${{ endif() }}\n", "line 14: `endif()`: no `if` is open"),
        ("${{ else() }}\n", "no `if` is open"),
        ("${{ elif(true) }}\n", "no `if` is open"),
        (
            "${{ if(true) }}\n${{ else() }}\n${{ else() }}\n${{ endif() }}\n",
            "line 16: `else()`: the `if` has an `else`",
        ),
        ("${{ if(true) }}\n${{ else() }}\n${{ elif(true) }}\n${{ endif() }}\n", "follows `else`"),
        ("${{ if() }}\n${{ endif() }}\n", "condition is missing"),
        ("${{ else(true) }}\n", "takes no condition"),
        (
            "${{ if(inputs.prot) }}\n${{ endif() }}\n",
            "line 14: `inputs.prot` is not defined (in `(inputs.prot)`)",
        ),
        ("a: ${{ inputs.host\n", "line 14: `${{ inputs.host` is never closed"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object x\n", "tag"),
        ("? [a]\n: b\n", "a key is not a string"),
        ("---\napiVersion: v1\nkind: Secret\n", "line 15: the document has no `metadata.name`"),
        ("---\n- a\n", "the document has no `apiVersion`"),
    ];
    for (data, expected) in cases {
        check_error(&with_data(data), &[], expected);
    }
    // Lines after a branch that was left out still have their own numbers.
    check_error(
        &with_data("${{ if(false) }}\na: 1\n${{ endif() }}\nb: ${{ nope }}\n"),
        &[],
        "line 17: `nope`",
    );
    check_error(&with_data("${{ if(false) }}\na: 1\n${{ endif() }}\nb: {\n"), &[], "line 17: not valid YAML");
}

#[test]
fn a_dead_branch_is_not_evaluated() {
    let data = "${{ if(false) }}\na: ${{ nope }}\n${{ if(nope) }}\n${{ endif() }}\n${{ else if (true) }}\nb: 1\n${{ elseif(nope) }}\n${{ endif }}\n";
    assert_eq!(evaluate(&with_data(data), &[]).unwrap().objects[0]["b"], 1);
}

#[test]
fn a_message_is_one_line_of_bounded_length() {
    let long = "x".repeat(100_000);
    let error = Template::parse(&fixture("probe"))
        .unwrap()
        .evaluate(&[(format!("a\n{long}"), String::new())].into(), &super::context(), &mut || 0)
        .unwrap_err()
        .to_string();
    assert!(error.len() < 400 && !error.contains('\n'), "{error}");
}
