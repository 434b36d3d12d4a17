//! What an Ingress has to do by its specification, scenario by scenario: those by which
//! Kubernetes' Ingress controllers are tried for conformance. That requests are spread
//! over endpoints is seen where there are some, in `tests/serve`.

use super::{World, check, ingress};

const DEFAULT: &str = "  defaultBackend: {service: {name: default, port: {number: 80}}}";

/// Paths of one host, as `type path`; each leads to a Service of its own.
fn paths(host: &str, paths: &[&str]) -> String {
    let paths: Vec<String> =
        paths.iter().enumerate().map(|(index, path)| format!("{path} s{index}:80")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    ingress("a", "i", 1, host, &paths, "")
}

#[test]
fn one_without_rules_sends_everything_to_its_default_backend() {
    let alone = format!("---\nkind: Ingress\nmetadata: {{name: i, namespace: a}}\nspec:\n{DEFAULT}\n");
    let world = World::new(&alone);
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        for target in ["example.com/", "example.com/any/path", "other.example.com/", "10.0.0.1/"] {
            world.check(&[(&format!("{method} http://{target}"), "a/default:80")]);
        }
    }
}

#[test]
fn an_exact_path_is_that_path_alone() {
    check(
        &paths("exact.example.com", &["Exact /foo"]),
        &[
            ("GET http://exact.example.com/foo", "a/s0:80"),
            ("GET http://exact.example.com/foo?query=/bar", "a/s0:80"),
            ("GET http://exact.example.com/foo/", "no route"),
            ("GET http://exact.example.com/FOO", "no route"),
            ("GET http://exact.example.com/bar", "no route"),
            ("GET http://exact.example.com/foo/bar", "no route"),
        ],
    );
    check(
        &paths("exact.example.com", &["Exact /foo/"]),
        &[("GET http://exact.example.com/foo/", "a/s0:80"), ("GET http://exact.example.com/foo", "no route")],
    );
}

#[test]
fn a_prefix_is_one_by_whole_elements() {
    check(
        &paths("prefix.example.com", &["Prefix /foo", "Prefix /aaa/bbb", "Prefix /aaa"]),
        &[
            ("GET http://prefix.example.com/foo", "a/s0:80"),
            ("GET http://prefix.example.com/foo/", "a/s0:80"),
            ("GET http://prefix.example.com/FOO", "no route"),
            ("GET http://prefix.example.com/foobar", "no route"),
            ("GET http://prefix.example.com/aaa/bbb", "a/s1:80"),
            ("GET http://prefix.example.com/aaa/bbb/", "a/s1:80"),
            ("GET http://prefix.example.com/aaa/bbb/ccc", "a/s1:80"),
            ("GET http://prefix.example.com/aaa/bbbxyz", "a/s2:80"),
            ("GET http://prefix.example.com/aaa/ccc", "a/s2:80"),
            ("GET http://prefix.example.com/aaaccc", "no route"),
            ("GET http://prefix.example.com/", "no route"),
        ],
    );
    // All of it.
    check(
        &paths("prefix.example.com", &["Prefix /"]),
        &[
            ("GET http://prefix.example.com/", "a/s0:80"),
            ("GET http://prefix.example.com/any/path", "a/s0:80"),
        ],
    );
}

#[test]
fn a_slash_at_a_prefix_end_changes_nothing() {
    check(
        &paths("slash.example.com", &["Prefix /aaa/bbb/"]),
        &[
            ("GET http://slash.example.com/aaa/bbb", "a/s0:80"),
            ("GET http://slash.example.com/aaa/bbb/", "a/s0:80"),
            ("GET http://slash.example.com/aaa/bbb/ccc", "a/s0:80"),
            ("GET http://slash.example.com/aaa/bbbccc", "no route"),
        ],
    );
}

#[test]
fn the_longest_path_wins_and_of_equals_the_exact_one() {
    for order in [["Prefix /foo", "Exact /foo"], ["Exact /foo", "Prefix /foo"]] {
        let exact = format!("a/s{}:80", usize::from(order[1].starts_with("Exact")));
        let prefix = format!("a/s{}:80", usize::from(order[1].starts_with("Prefix")));
        check(
            &paths("mixed.example.com", &order),
            &[
                ("GET http://mixed.example.com/foo", &exact),
                ("GET http://mixed.example.com/foo/", &prefix),
                ("GET http://mixed.example.com/foo/bar", &prefix),
            ],
        );
    }
    check(
        &paths("mixed.example.com", &["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb", "Exact /aaa/bbb/ccc"]),
        &[
            ("GET http://mixed.example.com/aaa/bbb/ccc", "a/s3:80"),
            ("GET http://mixed.example.com/aaa/bbb/ccc/", "a/s2:80"),
            ("GET http://mixed.example.com/aaa/ccc", "a/s1:80"),
            ("GET http://mixed.example.com/ccc", "a/s0:80"),
        ],
    );
}

#[test]
fn a_host_is_matched_whole_and_a_wildcard_is_its_first_label() {
    let host = ingress("a", "host", 1, "foo.bar.com", &["Prefix / host:80"], "");
    let wild = ingress("a", "wild", 1, "*.foo.com", &["Prefix / wild:80"], "");
    check(
        &(host + &wild),
        &[
            ("GET http://foo.bar.com/", "a/host:80"),
            ("GET https://foo.bar.com/", "a/host:80"),
            ("GET http://subdomain.bar.com/", "no host"),
            ("GET http://bar.com/", "no host"),
            ("GET http://x.foo.bar.com/", "no host"),
            ("GET http://bar.foo.com/", "a/wild:80"),
            ("GET http://baz.bar.foo.com/", "no host"),
            ("GET http://foo.com/", "no host"),
        ],
    );
}

#[test]
fn a_class_that_is_not_there_is_served_by_nobody() {
    let class = "  ingressClassName: some-invalid-class-name";
    check(
        &ingress("a", "i", 1, "class.example.com", &["Prefix / s:80"], class),
        &[("GET http://class.example.com/", "no host")],
    );
}
