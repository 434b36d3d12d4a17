use serde_json::{Value, json};

use super::{evaluate, with_data};

/// An expression's result, alone and unquoted.
#[track_caller]
fn check_result(expression: &str, expected: &Value) {
    let app = evaluate(&with_data(&format!("spec:\n  it: ${{{{ {expression} }}}}\n")), &[]);
    let app = app.unwrap_or_else(|error| panic!("{expression}: {error}"));
    assert_eq!(&app.objects[0]["spec"]["it"], expected, "{expression}");
}

/// An expression's refusal.
#[track_caller]
fn check_refusal(expression: &str, expected: &str) {
    let error = evaluate(&with_data(&format!("spec:\n  it: ${{{{ {expression} }}}}\n")), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains(expected) && error.starts_with("line 15"), "{expression}: {error}");
}

#[test]
fn results() {
    let cases = [
        ("defaults.app_name", json!("small")),
        ("inputs['host']", json!("Here")),
        ("inputs[\"po\" + 'rt']", json!(80)),
        ("SEALOS_NAMESPACE", json!("team-abcdef")),
        ("SEALOS_SERVICE_ACCOUNT", json!("owner")),
        ("inputs.host === 'Here' && inputs.port !== '81'", json!(true)),
        ("inputs.port == 80", json!(true)),
        ("inputs.port === 80", json!(false)),
        ("inputs.port != 80 || false", json!(false)),
        ("inputs.port > 9", json!(true)),
        ("inputs.port > '9'", json!(false)),
        ("3 <= 3 && 2 < 3 && 4 >= 4", json!(true)),
        ("'a' < 'b'", json!(true)),
        ("undefined < 1", json!(false)),
        ("1 + 2 + '3'", json!(33)),
        ("'1' + 2 + 3", json!(123)),
        ("1 + true + null", json!(2)),
        ("1 + undefined", json!("NaN")),
        ("-inputs.port", json!(-80)),
        ("0.1 + 0.2", json!(0.1 + 0.2)),
        ("1e21 + 0 + 'x'", json!("1e+21x")),
        ("!''", json!(true)),
        ("!!'0'", json!(true)),
        ("!0 && !null && !undefined && !!-1", json!(true)),
        ("null == undefined", json!(true)),
        ("null === undefined", json!(false)),
        ("null == 0", json!(false)),
        ("'' == 0", json!(true)),
        ("true == '1'", json!(true)),
        ("'' || 'b'", json!("b")),
        ("'a' && 'b'", json!("b")),
        ("false ? 'a' : true ? 'b' : 'c'", json!("b")),
        ("1 < 2 ? inputs.host : nothing", json!("Here")),
        ("null", json!(null)),
        ("(1 + 2) === 3", json!(true)),
        ("inputs.host.toLowerCase() + inputs.host.toUpperCase()", json!("hereHERE")),
        ("'  x '.trim().length", json!(1)),
        ("'🦀'.length", json!(2)),
        ("'abc'.includes('bc') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", json!(true)),
        ("'a.a'.replace('.', '-')", json!("a-a")),
        ("'aaa'.replace('a', 'b')", json!("baa")),
        ("'aaa'.replace('', 'b')", json!("baaa")),
        ("'aaa'.replace(/a/, 'b')", json!("baa")),
        ("'aAa'.replace(/a/gi, 'b')", json!("bbb")),
        ("'XyZ-9f'.toLowerCase().replace(/[^0-9a-f]/g, 'a')", json!("aaaa9f")),
        ("'a/b]'.replace(/[/\\]]/g, '')", json!("ab")),
        ("'john smith'.replace(/(\\w+) (\\w+)/, '$2-$1-$$-$&-$9')", json!("smith-john-$-john smith-$9")),
        ("'ab12'.replace(/(?<word>[a-z]+)\\d+/, '<$<word>>')", json!("<ab>")),
        ("'a٣'.replace(/\\d/g, 'x')", json!("a٣")),
        ("'a\\nb'.replace(/^b$/m, 'c')", json!("a\nc")),
        ("'[x]'.replace(/[[\\]]/g, '')", json!("x")),
        ("'it\\'s \\x41\\u0042\\u{43}\\t'", json!("it's ABC\t")),
        ("base64('validation')", json!("dmFsaWRhdGlvbg==")),
        ("random(4) + random(2)", json!("abcdef")),
        ("random(1 + 1).length", json!(2)),
    ];
    for (expression, expected) in cases {
        check_result(expression, &expected);
    }
}

#[test]
fn refusals() {
    let cases = [
        ("", "is empty"),
        ("inputs", "`inputs` is not defined"),
        ("inputs.prot", "`inputs.prot` is not defined; inputs here are: port, host"),
        (
            "defaults.nme + ''",
            "`defaults.nme` is not defined (in `defaults.nme + ''`); defaults here are: app_name",
        ),
        ("nothing", "names here are: SEALOS_NAMESPACE"),
        (
            "fetch('x')",
            "`fetch()` is not defined (in `fetch('x')`); functions here are: random(n), base64(s)",
        ),
        ("'a'.repeat(9)", "methods here are: .toLowerCase()"),
        ("'a'.constructor", "`.constructor` is not offered"),
        ("(3).trim()", "needs a string"),
        ("'a'.trim(1)", "takes none"),
        ("random(0)", "1 to 256 letters"),
        ("random(1e9)", "1 to 256 letters"),
        ("random('x')", "1 to 256 letters"),
        ("random()", "takes one argument"),
        ("undefined", "is undefined"),
        ("a = b", "compare with `===`"),
        ("`x`", "template literals"),
        ("1 2", "`2` is not expected there"),
        ("(1", "`)` is missing"),
        ("1 +", "value is missing"),
        ("'abc", "string is never closed"),
        ("0x10", "decimal"),
        ("a ; b", "`;` has no meaning"),
        ("/a/", "stands only in"),
        ("'a'.replace(/(?=a)/, '')", "looking ahead"),
        ("'a'.replace(/(a)\\1/, '')", "back references"),
        ("'a'.replace(/a/y, '')", "flag `y`"),
        ("'a'.replace(/[/, '')", "never closed"),
        ("'a'.replace(/(/, '')", "the regular expression `/(/`"),
        ("'a'.replace(/((a{99}){99}){99}/, '')", "limit of 65536 bytes"),
        ("if(inputs.host)", "on a line of its own"),
    ];
    for (expression, expected) in cases.into_iter().filter(|(expression, _)| !expression.starts_with("if(")) {
        check_refusal(expression, expected);
    }
    let error = evaluate(&with_data("spec:\n  it: ${{ if(inputs.host) }} x\n"), &[]).unwrap_err().to_string();
    assert!(error.contains("stands on a line of its own"), "{error}");
}
