//! As much of an API server as the gateway's watches ask for: lists in pages, and
//! events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::Result;

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub struct Api {
    count: usize,
    backend: SocketAddr,
    /// A certificate and its key for each host, or none.
    pairs: Vec<(ByteString, ByteString)>,
    /// Of Ingresses.
    events: broadcast::Sender<Bytes>,
}

pub fn host(number: usize) -> String {
    format!("app-{number}.atollapps.localhost")
}

impl Api {
    pub fn new(count: usize, certificates: bool, backend: SocketAddr) -> Result<Arc<Self>> {
        // As an authority has it: each with a certificate of its own, and all with
        // the authority's after it.
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let mut pairs = Vec::new();
        for number in 0..if certificates { count } else { 0 } {
            let key = KeyPair::generate()?;
            let leaf = CertificateParams::new([host(number)])?.signed_by(&key, &issuer)?;
            let text = |pem: String| ByteString(pem.into_bytes());
            pairs.push((text(leaf.pem() + &authority), text(key.serialize_pem())));
        }
        Ok(Arc::new(Self { count, backend, pairs, events: broadcast::channel(1024).0 }))
    }

    pub async fn serve(self: Arc<Self>) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let api = self.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let answer = api.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(address)
    }

    /// Something happened to an Ingress with one host.
    pub fn event(&self, kind: &str, name: &str, host: &str) {
        let event = json!({"type": kind, "object": ingress(name, "new", host, "app-0")});
        let _ = self.events.send(format!("{event}\n").into());
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let resource = path.rsplit('/').next().unwrap_or_default();
        if path.contains("gateway.networking") {
            let mut response = Response::new(Full::from("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"NotFound\",\"message\":\"not found\",\"code\":404}").boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        if query.contains("watch=true") {
            let events = (resource == "ingresses").then(|| self.events.subscribe());
            let frames = futures::stream::unfold(events, |events| async move {
                let Some(mut events) = events else { return std::future::pending().await };
                let event = events.recv().await.ok()?;
                Some((Ok(Frame::data(event)), Some(events)))
            });
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let number = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse::<usize>().ok())
        };
        let start = number("continue").unwrap_or(0);
        let all = match resource {
            "ingresses" | "services" | "endpointslices" => self.count,
            "secrets" => self.pairs.len(),
            _ => 0,
        };
        let end = all.min(start + number("limit").unwrap_or(all));
        let items: Vec<Value> = (start..end).map(|number| self.item(resource, number)).collect();
        let mut metadata = json!({"resourceVersion": "1"});
        if end < all {
            metadata["continue"] = json!(end.to_string());
        }
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
        Response::new(Full::from(list.to_string()).boxed_unsync())
    }

    fn item(&self, resource: &str, number: usize) -> Value {
        let (name, namespace) = (format!("app-{number}"), format!("ns-{}", number / 10));
        match resource {
            "ingresses" => {
                let mut ingress = ingress(&name, &namespace, &host(number), &name);
                if !self.pairs.is_empty() {
                    ingress["spec"]["tls"] =
                        json!([{"hosts": [host(number)], "secretName": format!("{name}-tls")}]);
                    // The load is in clear text; the certificates are there to be held.
                    ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"] =
                        json!("false");
                }
                ingress
            }
            "services" => json!({
                "metadata": meta(&name, &namespace, &json!({})),
                "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
            }),
            "endpointslices" => json!({
                "metadata": meta(&format!("{name}-x7f2k"), &namespace, &json!({"kubernetes.io/service-name": name})),
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": self.backend.port(), "protocol": "TCP"}],
                "endpoints": [{"addresses": [self.backend.ip().to_string()], "conditions": {"ready": true, "serving": true, "terminating": false}}],
            }),
            _ => {
                let (certificate, key) = &self.pairs[number];
                json!({
                    "metadata": meta(&format!("{name}-tls"), &namespace, &json!({})),
                    "type": "kubernetes.io/tls",
                    "data": {"tls.crt": certificate, "tls.key": key},
                })
            }
        }
    }
}

/// With what a real server adds and nobody here reads.
fn meta(name: &str, namespace: &str, labels: &Value) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "uid": format!("00000000-0000-4000-8000-{:0>12}", name.len()),
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels,
        "managedFields": [{
            "manager": "kubectl-client-side-apply",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:annotations": {".": {}}, "f:labels": {".": {}}}, "f:spec": {"f:rules": {}}},
        }],
    })
}

fn ingress(name: &str, namespace: &str, host: &str, service: &str) -> Value {
    // The new ones share a service that is there.
    let namespace = if namespace == "new" { "ns-0" } else { namespace };
    let mut meta = meta(name, namespace, &json!({"app": name}));
    meta["annotations"] = json!({"nginx.ingress.kubernetes.io/proxy-body-size": "32m"});
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    json!({
        "metadata": meta,
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}
