//! The whole of it, from a watch to an answer, against an API server that can
//! be taken away.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

/// Lists what it has and streams what is added; knows no Gateway API.
#[derive(Clone)]
struct Api {
    objects: Arc<Mutex<Vec<(String, Value)>>>,
    events: broadcast::Sender<(String, Value)>,
}

impl Api {
    async fn start(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let api = api.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let response = api.answer(&request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        (address, task)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let resource = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let query = request.uri().query().unwrap_or_default();
        if request.uri().path().contains("gateway.networking") {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "404 page not found", "reason": "NotFound", "code": 404});
            let mut response = Response::new(Full::from(status.to_string()).boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        if query.contains("watch=true") {
            let events = self.events.subscribe();
            let frames = futures::stream::unfold((events, resource), |(mut events, resource)| async move {
                loop {
                    let (of, event) = events.recv().await.ok()?;
                    if of == resource {
                        return Some((
                            Ok(Frame::data(Bytes::from(format!("{event}\n")))),
                            (events, resource),
                        ));
                    }
                }
            });
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let items: Vec<Value> = self
            .objects
            .lock()
            .unwrap()
            .iter()
            .filter(|(of, _)| *of == resource)
            .map(|(_, object)| object.clone())
            .collect();
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(Full::from(list.to_string()).boxed_unsync())
    }

    fn event(&self, kind: &str, resource: &str, object: &Value) {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!("2");
        self.events.send((resource.to_owned(), json!({"type": kind, "object": object}))).unwrap();
    }
}

fn objects(host: &str, backend: SocketAddr) -> Vec<(String, Value)> {
    let meta = |more: Value| {
        let mut meta = json!({"name": "web", "namespace": "a", "resourceVersion": "1"});
        meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        meta
    };
    let service = json!({"name": "web", "port": {"number": 80}});
    let ingress = json!({
        "metadata": meta(json!({})),
        "spec": {"rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": service}}]}}]}
    });
    let slice = json!({
        "metadata": meta(json!({"labels": {"kubernetes.io/service-name": "web"}})), "addressType": "IPv4",
        "ports": [{"name": "", "port": backend.port()}], "endpoints": [{"addresses": ["127.0.0.1"]}]
    });
    vec![
        ("ingresses".into(), ingress),
        ("services".into(), json!({"metadata": meta(json!({})), "spec": {"ports": [{"port": 80}]}})),
        ("endpointslices".into(), slice),
    ]
}

struct Running {
    config: gateway::Config,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), gateway::Error>>,
}

async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl Running {
    async fn start(api: SocketAddr, snapshot: &Path) -> Self {
        let client =
            kube::Client::try_from(kube::Config::new(format!("http://{api}").parse().unwrap())).unwrap();
        let config = gateway::Config {
            http: free().await,
            https: free().await,
            admin: free().await,
            snapshot: Some(snapshot.to_owned()),
            ..gateway::Config::default()
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(gateway::run(client, config.clone(), shutdown));
        Self { config, stop: Some(stop), task }
    }

    /// Asks until the answer begins with this; the last answer.
    async fn ask(&self, address: SocketAddr, host: &str, path: &str, wanted: &str) -> String {
        let started = Instant::now();
        loop {
            let answer = get(address, host, path).await;
            if answer.starts_with(wanted) {
                return answer;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{host}{path}: {answer:?}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = tokio::time::timeout(Duration::from_millis(500), stream.read_to_string(&mut answer)).await;
    answer
}

async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 2048];
                let _ = stream.read(&mut head).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
                    .await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_what_is_watched_and_goes_on_without_the_api_server() {
    let directory = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let first = objects("a.test", backend);
    let api = Api { objects: Arc::new(Mutex::new(first.clone())), events: broadcast::channel(16).0 };
    let (address, serving) = api.start().await;

    let running = Running::start(address, directory.path()).await;
    let http = running.config.http;
    running.ask(http, "a.test", "/", "HTTP/1.1 200 ").await;
    running.ask(running.config.admin, "x", "/readyz", "HTTP/1.1 200 ").await;
    running.ask(http, "b.test", "/", "HTTP/1.1 404 ").await;
    let (_, moved) = &objects("b.test", backend)[0];
    api.event("MODIFIED", "ingresses", moved);
    running.ask(http, "b.test", "/", "HTTP/1.1 200 ").await;
    running.ask(http, "a.test", "/", "HTTP/1.1 404 ").await;
    let metrics = running.ask(running.config.admin, "x", "/metrics", "HTTP/1.1 200 ").await;
    assert!(metrics.contains("atoll_gateway_hosts 1"), "{metrics}");
    assert!(metrics.contains(
        "atoll_gateway_route_requests_total{kind=\"Ingress\",namespace=\"a\",name=\"web\",code=\"2xx\"}"
    ));

    // With the server away what is known is served, also after a restart.
    serving.abort();
    let _ = serving.await;
    running.ask(http, "b.test", "/", "HTTP/1.1 200 ").await;
    running.stop().await;
    let file = std::fs::metadata(directory.path().join("gateway.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let running = Running::start(address, directory.path()).await;
    running.ask(running.config.http, "b.test", "/", "HTTP/1.1 200 ").await;
    running.ask(running.config.admin, "x", "/readyz", "HTTP/1.1 200 ").await;
    running.stop().await;

    // What went away meanwhile goes when the lists are in.
    *api.objects.lock().unwrap() = objects("c.test", backend);
    let (address, _serving) = api.start().await;
    let running = Running::start(address, directory.path()).await;
    running.ask(running.config.http, "c.test", "/", "HTTP/1.1 200 ").await;
    running.ask(running.config.http, "b.test", "/", "HTTP/1.1 404 ").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in_is_read_from_the_secret_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = objects("a.test", backend().await);
    first[0].1["metadata"]["annotations"] = json!({
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "users",
    });
    // ada:secret, by its SHA-1.
    let secret = |hash: &str| {
        let users = base64::engine::general_purpose::STANDARD.encode(format!("ada:{{SHA}}{hash}\n"));
        let meta = json!({"name": "users", "namespace": "a", "resourceVersion": "1"});
        json!({"metadata": meta, "type": "Opaque", "data": {"auth": users}})
    };
    let good = "5en6G6MezRroT3XKqkdPOmY/BfQ=";
    first.push(("secrets".into(), secret(good)));
    let api = Api { objects: Arc::new(Mutex::new(first)), events: broadcast::channel(16).0 };
    let (address, serving) = api.start().await;
    // The header comes along with the host.
    let known = "a.test\r\nAuthorization: Basic YWRhOnNlY3JldA==";

    let running = Running::start(address, directory.path()).await;
    running.ask(running.config.http, known, "/", "HTTP/1.1 200 ").await;
    assert!(get(running.config.http, "a.test", "/").await.starts_with("HTTP/1.1 401 "));
    // Told until it is heard: the watch may just have begun.
    let told = async |kind: &str, secret: &Value, wanted: &str| {
        let started = Instant::now();
        loop {
            api.event(kind, "secrets", secret);
            let answer = get(running.config.http, known, "/").await;
            if answer.starts_with(wanted) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{kind}: {answer:?}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    told("MODIFIED", &secret(&good.replace('5', "6")), "HTTP/1.1 401 ").await;
    told("DELETED", &secret(good), "HTTP/1.1 500 ").await;
    told("ADDED", &secret(good), "HTTP/1.1 200 ").await;
    running.stop().await;

    // Without the API server it is as it was.
    serving.abort();
    let _ = serving.await;
    let running = Running::start(address, directory.path()).await;
    running.ask(running.config.http, known, "/", "HTTP/1.1 200 ").await;
    assert!(get(running.config.http, "a.test", "/").await.starts_with("HTTP/1.1 401 "));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_known_nothing_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(free().await, directory.path()).await;
    running.ask(running.config.admin, "x", "/readyz", "HTTP/1.1 503 ").await;
    assert_eq!(get(running.config.http, "a.test", "/").await, "");
    running.stop().await;
    assert!(!directory.path().join("gateway.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let config = gateway::Config { http: taken.local_addr().unwrap(), ..gateway::Config::default() };
    let error = gateway::run(client, config, std::future::pending()).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("can't listen on {}: ", taken.local_addr().unwrap())),
        "{error}"
    );
}
