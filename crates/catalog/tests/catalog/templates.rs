use catalog::{Error, InputKind, Template, check_supported};
use serde_json::{Value, json};

use super::{check, evaluate, fixture};

#[test]
fn wiki_is_evaluated_in_order() {
    check(
        &fixture("wiki"),
        &[("replicas", "2"), ("title", "12")],
        &[
            ("0/kind", json!("Deployment")),
            ("0/metadata/name", json!("wiki-ijklmnop")),
            ("0/spec/replicas", json!(2)),
            ("0/spec/template/spec/containers/0/env/0/value", json!("12")),
            (
                "0/spec/template/spec/containers/0/env/1/value",
                json!("https://abcdefgh.apps.example.org:8443"),
            ),
            ("0/spec/template/spec/volumes/0/configMap/defaultMode", json!(420)),
            ("1/spec/selector/app", json!("wiki-ijklmnop")),
            ("2/spec/rules/0/host", json!("abcdefgh.apps.example.org")),
            ("2/spec/tls/0/secretName", json!("wildcard")),
        ],
    );
    let app = evaluate(&fixture("wiki"), &[]).unwrap();
    assert_eq!(app.name, "wiki-ijklmnop");
    assert_eq!(app.objects.len(), 3, "the App object is a link");
    assert_eq!(app.links[0].name, "Our wiki");
    assert_eq!(app.links[0].url, "https://abcdefgh.apps.example.org");
    assert_eq!(app.links[0].kind, "iframe");
    assert_eq!(app.values.inputs["replicas"], "1");
    assert_eq!(app.values.defaults["app_host"], "abcdefgh");
    check_supported(&app).unwrap();
}

#[test]
fn wiki_describes_itself() {
    let template = Template::parse(&fixture("wiki")).unwrap();
    assert_eq!(template.name(), "wiki");
    assert_eq!(template.about().title, "Team wiki");
    assert_eq!(template.about().categories, ["tool", "low-code"]);
    assert_eq!(template.about().i18n["de"]["title"], "Wiki fürs Team");
    let inputs = template.inputs();
    assert_eq!(inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["title", "replicas"]);
    assert_eq!(
        (inputs[1].kind, inputs[1].required, inputs[1].default.as_str()),
        (InputKind::Number, true, "1")
    );
}

#[test]
fn board_follows_its_conditions() {
    let board = fixture("board");
    let args = "0/spec/template/spec/containers/0/args";
    check(&board, &[], &[(args, json!(["serve", "--store=memory"])), ("1/spec/type", json!("ClusterIP"))]);
    check(
        &board,
        &[("store", "remote"), ("remote_address", "a: b")],
        &[(args, json!(["serve", "--store=a: b"]))],
    );
    let claim = "0/spec/volumeClaimTemplates/0/spec";
    check(
        &board,
        &[("store", "disk"), ("size", "11")],
        &[
            (args, json!(["serve", "--store=/data"])),
            (claim, json!({"resources": {"requests": {"storage": "11Gi"}}, "storageClassName": "large"})),
        ],
    );
    check(&board, &[("store", "disk")], &[(claim, json!({"resources": {"requests": {"storage": "5Gi"}}}))]);
    let app = evaluate(&board, &[("public", "FALSE")]).unwrap();
    assert_eq!(app.objects.len(), 1, "a boolean that is false is false");
    let app = evaluate(&board, &[]).unwrap();
    assert!(app.objects[0]["spec"].get("volumeClaimTemplates").is_none());
    assert_eq!(app.values.inputs["remote_address"], "", "an input that doesn't apply is not required");
    check_supported(&app).unwrap();
}

#[test]
fn mailer_fills_embedded_files() {
    check(
        &fixture("mailer"),
        &[("password", "p\"w: #1")],
        &[
            ("0/data/password", json!("cCJ3OiAjMQ==")),
            ("0/stringData/key", json!("abcdefghijklmnopqrstuvwxyzabcdef")),
            (
                "1/data/settings.yaml",
                json!("# mailer for team-abcdef\npassword: \"p\"w: #1\"\n---\nsecond: document\n"),
            ),
            ("1/data/folded", json!("Hello,\nworld and good bye")),
            ("1/data/braces", json!("}}")),
        ],
    );
    check(
        &fixture("mailer"),
        &[("password", "0123"), ("greeting", "a greeting of some length")],
        &[
            ("0/stringData/plain", json!("0123")),
            (
                "1/data/settings.yaml",
                json!("# mailer for team-abcdef\npassword: \"0123\"\n---\nsecond: document\nlong: true\n"),
            ),
        ],
    );
    let template = Template::parse(&fixture("mailer")).unwrap();
    assert_eq!(template.about().description, "A text that shows a document's end:\n---\nand goes on.\n");
}

#[test]
fn worker_chooses_between_documents() {
    let worker = fixture("worker");
    check(
        &worker,
        &[],
        &[("0/kind", json!("Job")), ("0/spec/suspend", json!(false)), ("1/kind", json!("ServiceAccount"))],
    );
    check(
        &worker,
        &[("schedule", "*/5 * * * *"), ("suspended", "true")],
        &[
            ("0/kind", json!("CronJob")),
            ("0/spec/schedule", json!("*/5 * * * *")),
            ("0/spec/suspend", json!(true)),
            ("3/subjects/0/name", json!("owner")),
        ],
    );
    check_supported(&evaluate(&worker, &[]).unwrap()).unwrap();
}

#[test]
fn chat_computes() {
    let chat = fixture("chat");
    check(
        &chat,
        &[],
        &[
            ("0/metadata/labels", json!({"app": "chat"})),
            ("0/metadata/annotations", json!({"app": "chat", "my/room": "caf-bar-42"})),
            ("0/data/greeting", json!("Hi Café & Bar 42")),
            ("0/data/seats", json!("2.5")),
            ("0/data/long", json!("my-chat")),
            ("0/data/both", json!("mychat")),
            ("0/data/list", json!("chat@apps.example.org,CHAT@APPS.EXAMPLE.ORG")),
            ("1/spec/minReplicas", json!(3)),
            ("2/spec/enabled", json!(false)),
        ],
    );
    check(&chat, &[("admin", "me")], &[("0/data/greeting", json!("Hi"))]);
}

#[test]
fn plain_expressions_are_typed_like_yaml() {
    let cases = [
        ("12", json!(12)),
        ("-1", json!(-1)),
        ("18446744073709551615", json!(u64::MAX)),
        ("184467440737095516150", json!("184467440737095516150")),
        ("1.50", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("1e999", json!("1e999")),
        ("0123", json!("0123")),
        ("1.", json!("1.")),
        ("0x10", json!("0x10")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("yes", json!("yes")),
        ("null", json!("null")),
        ("~", json!("~")),
        ("", json!("")),
        (".inf", json!(".inf")),
    ];
    for (text, value) in cases {
        check(
            &fixture("probe"),
            &[("needed", "n"), ("text", text)],
            &[
                ("0/spec/plain", value.clone()),
                ("0/spec/flow/0", value.clone()),
                ("0/spec/single", json!(text)),
                ("0/spec/double", json!(text)),
                ("0/spec/literal", json!(format!("{text}\n"))),
            ],
        );
    }
    check(
        &fixture("probe"),
        &[("needed", "1")],
        &[
            ("0/spec/number", json!(1.5)),
            ("0/spec/int", json!(3)),
            ("0/spec/float", json!(0.25)),
            ("0/spec/choice", json!("a")),
            ("0/spec/switch", json!(false)),
            ("0/spec/keys", json!({"1": "key"})),
        ],
    );
}

#[test]
fn literal_scalars_are_typed_like_kubernetes_does() {
    check(
        &super::with_data(
            "spec: {a: 0644, b: 0x1f, c: +3, d: yes, e: ~, f: 1.25, g: !!str 3, h: 0o17, i: 0899, j: '7'}\n",
        ),
        &[],
        &[(
            "0/spec",
            json!({"a": 420, "b": 31, "c": 3, "d": "yes", "e": null, "f": 1.25, "g": "3", "h": 15, "i": "0899", "j": "7"}),
        )],
    );
}

/// The objects of a fixture with one part of the first object replaced.
fn unsupported(object: &str) -> String {
    let source = format!(
        "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {{name: x}}\nspec: {{}}\n---\n{object}\n"
    );
    match check_supported(&evaluate(&source, &[]).unwrap()) {
        Err(error @ Error::Unsupported { .. }) => error.to_string(),
        other => panic!("{other:?} for {object}"),
    }
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    let error = check_supported(&evaluate(&fixture("shop"), &[]).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cluster `shop-mongo` (apps.kubeblocks.io/v1alpha1): MongoDB is not offered as a managed database; run \
         one as a StatefulSet, or give the app the address of one"
    );
    check_supported(&evaluate(&fixture("gallery"), &[]).unwrap()).unwrap();
    let error = check_supported(&evaluate(&fixture("gallery"), &[("bucket", "true")]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("object storage is not offered"), "{error}");
    let cases = [
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "whole cluster"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "whole cluster"),
        ("v1", "Namespace", "whole cluster"),
        ("v1", "Node", "whole cluster"),
        ("v1", "PersistentVolume", "whole cluster"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "whole cluster"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "whole cluster"),
        ("apps/v1", "DaemonSet", "every node"),
        ("v1", "Pod", "use a Deployment"),
        ("v1", "List", "documents of their own"),
        ("cert-manager.io/v1", "Issuer", "certificates are the gateway's"),
        ("monitoring.coreos.com/v1", "ServiceMonitor", "monitoring"),
        ("apps.kubeblocks.io/v1alpha1", "BackupPolicy", "this database"),
        ("atoll.dev/v1alpha1", "Plan", "not offered"),
        ("evil.dev/v1", "Deployment", "not offered"),
        ("app.sealos.io/v1", "Template", "not offered"),
    ];
    for (api_version, kind, reason) in cases {
        let message = unsupported(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: n}}"));
        assert!(message.contains(reason) && message.starts_with(&format!("{kind} `n`")), "{message}");
    }
    let elsewhere = "apiVersion: v1\nkind: Secret\nmetadata: {name: n, namespace: kube-system}";
    assert!(unsupported(elsewhere).contains("names the namespace `kube-system`"));
    let script = "apiVersion: app.sealos.io/v1\nkind: App\nmetadata: {name: n}\nspec: {data: {url: 'JavaScript:alert(1)'}}";
    assert!(unsupported(script).contains("not a web page's"));
}

#[test]
fn aliases_share_one_value() {
    let source =
        super::with_data("spec:\n  a: &a ${{ random(3) }}\n  b: *a\n  c: {<<: {x: 1, y: 2}, y: 3}\n");
    let app = evaluate(&source, &[]).unwrap();
    assert_eq!(app.objects[0].pointer("/spec/c"), Some(&json!({"x": 1, "y": 3})));
    assert!(app.objects[0].pointer("/spec/b").is_some_and(Value::is_string));
}
