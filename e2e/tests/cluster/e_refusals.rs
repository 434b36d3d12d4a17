//! Bad input: one clear line that names the thing and what to do, a non-zero
//! exit, and nothing changed.

use std::fs;
use std::net::TcpListener;

use e2e::{Cluster, Said};

/// Checks that a command refuses in one line with these words, and that there
/// is no cluster afterwards.
fn check(cluster: &Cluster, words: &[&str], expected: &[&str]) {
    let said: Said = cluster.atoll(words);
    assert_ne!(said.code, Some(0), "{words:?}: {said:?}");
    let message: Vec<&str> =
        said.err.lines().filter(|line| line.starts_with("atoll:") || line.starts_with("error:")).collect();
    assert_eq!(message.len(), 1, "{words:?}: {said:?}");
    for word in expected {
        assert!(said.err.contains(word), "{words:?} doesn't say `{word}`: {said:?}");
    }
    assert!(!cluster.directory().exists(), "{words:?} left something");
}

#[test]
fn what_up_refuses() {
    let cluster = Cluster::named("refused");
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.tar");
    fs::write(&damaged, vec![7u8; 4096]).unwrap();
    let damaged = damaged.display().to_string();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();

    check(&cluster, &["up", "--wings"], &["--wings", "--help"]);
    check(&cluster, &["up", "--nodes", "0"], &["--nodes", "1 to 100"]);
    check(&cluster, &["up", "--nodes", "many"], &["many", "--nodes"]);
    check(
        &cluster,
        &["up", "--https-port", &port, "--image", "atoll/cluster"],
        &[&port, "in use", "--https-port"],
    );
    check(&cluster, &["up", "--image", "no/such"], &["no/such"]);
    check(&cluster, &["up", "--image", &damaged], &["damaged.tar"]);
    for name in ["Upper", "a.b", "-a", "a_b"] {
        let said = Cluster::named(name).atoll(&["up"]);
        assert_ne!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains(name), "{said:?}");
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    let cluster = Cluster::named("nowhere");
    check(&cluster, &["down"], &["nowhere", "atoll up"]);
    check(&cluster, &["status"], &["nowhere"]);
    check(&cluster, &["app", "list"], &["nowhere"]);
    check(&cluster, &["image", "inspect", "no/such"], &["no/such"]);
}

#[test]
fn templates_that_are_refused() {
    let cluster = Cluster::named("nowhere");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml").display().to_string();
    fs::write(&file, "kind: [").unwrap();
    check(&cluster, &["app", "install", &file], &["bad.yaml"]);
    check(&cluster, &["app", "install", "/no/such.yaml"], &["/no/such.yaml"]);
}

#[test]
fn an_undefined_name_in_a_template_changes_nothing() {
    let cluster = Cluster::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml").display().to_string();
    fs::write(
        &file,
        "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: undefined}\nspec: {title: T}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: undefined}\ndata: {a: '${{ inputs.nothing }}'}\n",
    )
    .unwrap();
    let said = cluster.atoll(&["app", "install", &file]);
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("inputs.nothing") && said.err.contains("line 9"), "{said:?}");
    assert!(!cluster.atoll(&["app", "list"]).ok().contains("undefined"));
    assert!(cluster.kubectl(&["get", "configmap", "undefined"]).code != Some(0));
    // One that never ends.
    let head = "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: t}\nspec: {title: T}\n---\n";
    fs::write(&file, format!("{head}${{{{ if(true) }}}}\nkind: ConfigMap\n")).unwrap();
    let said = cluster.atoll(&["app", "install", &file]);
    assert!(said.code != Some(0) && said.err.contains("endif"), "{said:?}");
    // An input that the template doesn't have, and an app that isn't there.
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml");
    let said = cluster.atoll(&["app", "install", hello, "--set", "color=red"]);
    assert!(said.code != Some(0) && said.err.contains("color") && said.err.contains("whom"), "{said:?}");
    let said = cluster.atoll(&["app", "uninstall", "nobody"]);
    assert!(said.code != Some(0) && said.err.contains("nobody"), "{said:?}");
}
