//! Against an API server that keeps objects by their paths, and their versions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use acme::plan::Attempt;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

type Objects = Arc<Mutex<HashMap<String, Value>>>;

const SECRET: &str = "/api/v1/namespaces/shop/secrets/web-tls";

fn client(objects: &Objects) -> Client {
    let objects = objects.clone();
    let serve = tower::service_fn(move |request: Request<Body>| {
        let objects = objects.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = answer(&mut objects.lock().unwrap(), &head.method, head.uri.path(), sent);
            let answer = Full::new(Bytes::from(answer.to_string()));
            Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
        }
    });
    Client::new(serve, "default")
}

fn answer(
    objects: &mut HashMap<String, Value>,
    method: &Method,
    path: &str,
    mut sent: Value,
) -> (u16, Value) {
    let refused = |code: u16| {
        let reason = if code == 404 { "NotFound" } else { "Conflict" };
        (code, json!({ "status": "Failure", "reason": reason, "message": "refused", "code": code }))
    };
    let name = sent["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match *method {
        Method::GET => objects.get(path).map_or(refused(404), |object| (200, object.clone())),
        Method::POST => {
            let path = format!("{path}/{name}");
            if objects.contains_key(&path) {
                return refused(409);
            }
            sent["metadata"]["resourceVersion"] = "1".into();
            objects.insert(path, sent.clone());
            (201, sent)
        }
        Method::PUT => {
            let Some(there) = objects.get(path) else { return refused(404) };
            if there["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] {
                return refused(409);
            }
            sent["metadata"]["resourceVersion"] = "2".into();
            objects.insert(path.to_owned(), sent.clone());
            (200, sent)
        }
        _ => refused(405),
    }
}

fn issued() -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let hosts = vec!["a.example".to_owned()];
    let chain = rcgen::CertificateParams::new(hosts.clone()).unwrap().self_signed(&key).unwrap().pem();
    Issued::new(chain, &key, &hosts).unwrap()
}

fn key() -> Key {
    Key { namespace: "shop".into(), secret: "web-tls".into() }
}

fn owner() -> (Kind, Id) {
    (Kind::Ingress, Id::new("shop", "web"))
}

#[tokio::test]
async fn a_certificate_is_kept_for_whoever_wanted_it_and_renewed() {
    let objects = Objects::default();
    let client = client(&objects);
    let (first, second) = (issued(), issued());
    let error = certificate(&client, &key(), &owner(), &first).await.unwrap_err();
    assert_eq!(error.to_string(), "whatever wanted it is gone");
    let ingress = json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "u" } });
    objects
        .lock()
        .unwrap()
        .insert("/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web".into(), ingress);
    assert!(!is_foreign(&client, &key()).await.unwrap());
    certificate(&client, &key(), &owner(), &first).await.unwrap();
    let kept = objects.lock().unwrap()[SECRET].clone();
    assert_eq!(kept["type"], "kubernetes.io/tls");
    assert_eq!(kept["metadata"]["labels"]["atoll.dev/acme"], "true");
    assert_eq!(kept["metadata"]["ownerReferences"][0]["uid"], "u");
    assert!(!is_foreign(&client, &key()).await.unwrap());
    certificate(&client, &key(), &owner(), &second).await.unwrap();
    let renewed = objects.lock().unwrap()[SECRET].clone();
    assert_ne!(kept["data"]["tls.key"], renewed["data"]["tls.key"]);
    assert_eq!(kept["metadata"]["labels"], renewed["metadata"]["labels"]);
}

#[tokio::test]
async fn what_somebody_else_has_made_stays() {
    for (labels, kind) in [
        (json!({}), "kubernetes.io/tls"),
        (json!({ "cert-manager.io/controller": "true" }), "kubernetes.io/tls"),
        (json!({ "atoll.dev/acme": "true" }), "Opaque"),
    ] {
        let metadata =
            json!({ "name": "web-tls", "namespace": "shop", "resourceVersion": "1", "labels": labels });
        let secret = json!({ "metadata": metadata, "type": kind, "data": {} });
        let objects = Objects::new(Mutex::new(HashMap::from([(SECRET.to_owned(), secret.clone())])));
        let client = client(&objects);
        assert!(is_foreign(&client, &key()).await.unwrap(), "{secret}");
        let error = certificate(&client, &key(), &owner(), &issued()).await.unwrap_err();
        assert!(error.to_string().contains("not made by ACME"), "{error}");
        assert_eq!(objects.lock().unwrap()[SECRET], secret);
    }
}

#[tokio::test]
async fn what_was_tried_outlives_the_process() {
    let objects = Objects::default();
    let client = client(&objects);
    assert_eq!(history(&client).await.unwrap(), History::default());
    let mut tried = History::default();
    for round in 0..2 {
        tried.begun(&key(), "w", &["a.example".to_owned()], 100 + round);
        save(&client, &tried).await.unwrap();
        assert_eq!(history(&client).await.unwrap(), tried);
    }
    assert_eq!(tried.attempts.get(&key()).map(|Attempt { failures, .. }| *failures), Some(2));
    let kept = objects.lock().unwrap().values_mut().next().map(|kept| kept["data"][JSON] = "{".into());
    assert!(kept.is_some());
    let error = history(&client).await.unwrap_err().to_string();
    assert!(error.contains("remove it to begin anew"), "{error}");
}
