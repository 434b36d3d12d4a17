//! Whatever a template says, evaluating it ends soon, in bounds and without a
//! panic.

use std::time::{Duration, Instant};

use catalog::{Error, Template, check_supported, limits};

use super::{alphabet, context, evaluate, fixture, with_data};

/// Evaluates what must be refused for a limit, in a second or two even on a
/// busy machine.
#[track_caller]
fn check_limit(source: &str, expected: &str) {
    let start = Instant::now();
    let error = evaluate(source, &[]).expect_err(expected).to_string();
    assert!(error.contains("limit") && error.contains(expected), "{expected:?} in {error:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{expected}: {:?}", start.elapsed());
}

#[test]
fn limits_are_kept() {
    let word = "x".repeat(1000);
    check_limit(&"#".repeat(limits::SOURCE_BYTES + 1), "the template exceeds");
    check_limit(
        &with_data(&format!("a: ${{{{ '{}' }}}}\n", "x".repeat(limits::EXPRESSION_BYTES))),
        "4096 bytes",
    );
    check_limit(&with_data(&format!("a: ${{{{ {}1{} }}}}\n", "(".repeat(999), ")".repeat(999))), "64 levels");
    check_limit(&with_data(&format!("a: ${{{{ {}1 }}}}\n", "!".repeat(999))), "64 levels");
    check_limit(&with_data(&format!("a: ${{{{ 1{} }}}}\n", "+1".repeat(999))), "64 levels");
    check_limit(&with_data(&format!("a: ${{{{ {}1 }}}}\n", "1?1:".repeat(900))), "64 levels");
    check_limit(&with_data(&format!("a: ${{{{ ''{} }}}}\n", ".trim()".repeat(400))), "64 levels");
    check_limit(&with_data(&"---\na: 1\n".repeat(limits::DOCUMENTS + 1)), "number of documents");
    check_limit(&with_data(&"${{ if(true) }}\n".repeat(17)), "depth of conditionals");
    check_limit(&with_data(&format!("a: {}{}\n", "[".repeat(99), "]".repeat(99))), "depth of the document");
    let laughs: String =
        (1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    check_limit(&with_data(&format!("a0: &a0 [{word}]\n{laughs}")), "aliases expanded");
    let aliases = "*a,".repeat(1000);
    check_limit(&with_data(&format!("a: &a [{}]\nb: [{aliases}]\n", "x,".repeat(1000))), "aliases expanded");
    let steps = "b: ${{ defaults.big.replace(/[0-9a-z]*!|x/g, 'x') }}\n";
    check_limit(&doubled(steps), "steps");
    check_limit(&doubled("b: ${{ defaults.big + defaults.big + defaults.big }}\n"), "one value");
    let many: String = (0..60).map(|n| format!("b{n}: ${{{{ defaults.big }}}}\n")).collect();
    check_limit(&doubled(&many), "what the template makes");
    let many: String = (0..1500)
        .map(|n| format!("b{n}: ${{{{ ''.replace(/((a{{1,30}}){{1,9}}){{1,3}}/, '') }}}}\n"))
        .collect();
    check_limit(&doubled(&many), "steps");
}

#[test]
fn chains_of_names_are_bounded() {
    let names: String =
        (0..200).map(|n| format!("    d{n}: {{value: '${{{{ defaults.d{} }}}}'}}\n", n + 1)).collect();
    let source = |names: &str| {
        format!(
            "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {{name: x}}\nspec:\n  defaults:\n{names}    d200: {{value: x}}\n"
        )
    };
    check_limit(&source(&names), "chain of names");
    let backwards: String =
        (0..200).rev().map(|n| format!("    d{n}: {{value: '${{{{ defaults.d{} }}}}'}}\n", n + 1)).collect();
    let ordered =
        source(&format!("    d200: {{value: x}}\n{backwards}")).replacen("    d200: {value: x}\n", "", 0);
    let ordered = ordered.strip_suffix("    d200: {value: x}\n").unwrap();
    assert_eq!(evaluate(ordered, &[]).unwrap().values.defaults["d0"], "x", "a chain in order needs no depth");
    let many: String = (0..300).map(|n| format!("    e{n}: {{value: x}}\n")).collect();
    check_limit(&source(&many), "spec.defaults");
}

/// A template with a default of 128 KiB.
fn doubled(data: &str) -> String {
    let mut defaults = format!("    d0: {{value: {}}}\n", "x".repeat(1024));
    for n in 1..7 {
        defaults
            .push_str(&format!("    d{n}: {{value: '${{{{ defaults.d{0} + defaults.d{0} }}}}'}}\n", n - 1));
    }
    defaults.push_str("    big: {value: '${{ defaults.d6 + defaults.d6 }}'}\n");
    with_data(data).replace("  defaults:\n", &format!("  defaults:\n{defaults}"))
}

/// A small generator, so that a failure can be repeated by its seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

const FRAGMENTS: [&str; 44] = [
    "${{",
    "}}",
    "${{ if(",
    "${{ if(true) }}\n",
    "${{ else() }}\n",
    "${{ endif() }}\n",
    "\n---\n",
    "...\n",
    "'",
    "\"",
    "\\",
    "|",
    ">-",
    "&a ",
    "*a ",
    "<<: ",
    "!!str ",
    "!x ",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    "#",
    "%YAML 1.2\n",
    "\t",
    "\r\n",
    "\u{feff}",
    "slot0q0z",
    "/a(/",
    "/[^",
    ".replace(/",
    ", '$1')",
    "random(",
    "base64(",
    "inputs.",
    "defaults.app_name",
    "? 1 : ",
    " + ",
    "(",
    "🦀",
    "\u{2028}",
];

fn mutate(source: &str, seeded: &mut Seeded) -> String {
    let mut text = source.to_owned();
    for _ in 0..=seeded.below(4) {
        let mut at = |text: &str| {
            let mut at = seeded.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (a, b) = (at(&text), at(&text));
        let (start, end) = (a.min(b), a.max(b));
        match seeded.below(5) {
            0 => text.replace_range(start..end, ""),
            1 => text.insert_str(start, FRAGMENTS[seeded.below(FRAGMENTS.len())]),
            2 => text.truncate(end),
            3 => {
                let copy = text[start..end].to_owned();
                text.insert_str(end, &copy);
            }
            _ => text.insert_str(end, FRAGMENTS[seeded.below(FRAGMENTS.len())]),
        }
    }
    text
}

fn run(source: &str) -> bool {
    let values = [("needed", "x"), ("password", "p")];
    let Ok(template) = Template::parse(source) else { return false };
    let values = values
        .iter()
        .filter(|(name, _)| template.inputs().iter().any(|input| input.name == *name))
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    match template.evaluate(&values, &context(), &mut alphabet()) {
        Ok(app) => {
            let size: usize = app.objects.iter().map(|object| object.to_string().len()).sum();
            assert!(size <= limits::OUTPUT_BYTES, "{size}");
            let _ = check_supported(&app).map_err(|error| error.to_string());
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() < 10_000, "{message}");
            assert!(!matches!(error, Error::Expression { line: 0, .. }), "{message}");
            false
        }
    }
}

#[test]
fn mutated_templates_never_panic() {
    let fixtures: Vec<String> =
        ["wiki", "board", "mailer", "worker", "shop", "gallery", "chat", "probe"].map(fixture).into();
    let mut seeded = Seeded(0x5eed_0a70_1100_0001);
    let mut evaluated = 0;
    for _ in 0..6000 {
        let source = mutate(&fixtures[seeded.below(fixtures.len())], &mut seeded);
        evaluated += usize::from(run(&source));
    }
    assert!(evaluated > 300, "mutations reach evaluation: {evaluated}");
}

#[test]
fn random_text_never_panics() {
    let mut seeded = Seeded(0x5eed_0a70_1100_0002);
    for round in 0..6000 {
        let mut text = String::new();
        for _ in 0..seeded.below(60) {
            if seeded.below(3) == 0 {
                text.push(char::from(u8::try_from(seeded.below(128)).unwrap()));
            } else {
                text.push_str(FRAGMENTS[seeded.below(FRAGMENTS.len())]);
            }
        }
        run(&text);
        run(&with_data(&text));
        run(&with_data(&format!("a: ${{{{ {} }}}}\n", text.replace('\n', " "))));
        if round % 10 == 0 {
            let bytes: Vec<u8> =
                (0..seeded.below(300)).map(|_| u8::try_from(seeded.below(256)).unwrap()).collect();
            run(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn hostile_sources_end_soon() {
    let size = limits::SOURCE_BYTES - 1000;
    let fill = |unit: &str| unit.repeat(size / unit.len());
    let units = [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "'",
        "\"",
        "\\",
        "|\n",
        "&a ",
        "!a ",
        "*a ",
        "%a\n",
        "#\n",
        "\n",
        " \n",
        "\t",
        "a\n",
        "- a\n",
        "a:\n",
        "---\n",
        "[a, ",
        "{a: ",
        "a b",
        "- - ",
        "slot0q",
        "slot",
        "${{",
        "${{a}}",
        "${{'",
        "${{/}}",
        "${{'}} ",
        "${{ if(1) }}\n",
        "${{ endif() }}\n",
        "a: ${{'a'}}\n",
        "- ${{1}}\n",
        "\r",
        "🦀",
        ": ",
        "-\n",
        "[]",
    ];
    for unit in units {
        let filled = fill(unit);
        let sources = [
            filled.clone(),
            with_data(&filled),
            with_data(&format!("a: [{filled}")),
            with_data(&format!("a: |\n {filled}")),
        ];
        for source in sources {
            let start = Instant::now();
            run(&source);
            assert!(start.elapsed() < Duration::from_secs(10), "{unit:?}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn the_deepest_evaluation_fits_a_small_stack() {
    let nested = |inner: &str| format!("{}{inner}{}", "(1 && ".repeat(60), ")".repeat(60));
    let names: String = (0..14)
        .map(|n| format!("    d{n}: {{value: \"${{{{ {} }}}}\"}}\n", nested(&format!("defaults.d{}", n + 1))))
        .collect();
    let source =
        with_data("a: 1\n").replace("  defaults:\n", &format!("  defaults:\n{names}    d14: {{value: x}}\n"));
    let worker = std::thread::Builder::new().stack_size(1 << 20).spawn(move || evaluate(&source, &[]));
    assert_eq!(worker.unwrap().join().unwrap().unwrap().values.defaults["d0"], "x");
}
