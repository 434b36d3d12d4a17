//! What is told of requests: traces, the access log, metrics.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::access::AccessLog;
use gateway::index::Scope;
use gateway::listen::Options;
use gateway::metrics::Metrics;
use gateway::table::Table;
use http::Request;
use serde_json::Value;

use super::world::{Backend, World, full, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_passed_on_or_begun_and_junk_is_neither() {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let told = |answer: &str| {
        let lines = answer.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(name, _)| name.starts_with("trace"))
            .map(|(_, value)| value.to_owned())
            .collect::<Vec<_>>()
    };
    let headers = format!("traceparent: {good}\r\ntracestate: a=1\r\n");
    assert_eq!(told(&world.ask("web.apps.test", "/", &headers).await.1), [good.as_str(), "a=1"]);
    let junk = format!("{good}-junk");
    for headers in [
        String::new(),
        format!("traceparent: {junk}\r\ntracestate: a=1\r\n"),
        format!("traceparent: {good}\r\ntraceparent: {junk}\r\ntracestate: a=1\r\n"),
        "tracestate: a=1\r\n".to_owned(),
    ] {
        let told = told(&world.ask("web.apps.test", "/", &headers).await.1);
        assert!(told.len() == 1 && told[0].len() == 55 && !told[0].contains(TRACE), "{headers}: {told:?}");
    }
    let mut http2 = world.http2("web.apps.test").await;
    let asked = Request::builder().uri("https://web.apps.test/").header("traceparent", junk);
    let answer = http2.send_request(asked.header("tracestate", "a=1").body(full("")).unwrap()).await.unwrap();
    let told = told(&text(answer).await);
    assert!(told.len() == 1 && told[0].len() == 55 && !told[0].contains(TRACE), "{told:?}");
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_a_line_and_is_counted() {
    let backend = Backend::start("one").await;
    let (kept, table, metrics) = (Kept::default(), Arc::new(Table::default()), Arc::new(Metrics::default()));
    let access_log = Some(AccessLog::to(kept.clone(), metrics.clone()).unwrap());
    let options = Options { https_port: 443, access_log, ..Options::default() };
    let mut world = World::serving(Scope::default(), options, table, metrics).await;
    world.app("web", "web.apps.test", &[], &[backend.address]);
    world.app("idle", "idle.apps.test", &[], &[backend.address]);
    world.get("web.apps.test", "/a%0A%22b?token=secret").await;
    world.get("nobody.apps.test", "/").await;
    let mut http2 = world.http2("web.apps.test").await;
    let trace = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let asked =
        Request::builder().method("POST").uri("https://web.apps.test/echo").header("traceparent", trace);
    let answer = http2.send_request(asked.body(full("0123456789")).unwrap()).await.unwrap();
    assert_eq!(text(answer).await, "0123456789");
    let lines = loop {
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        if text.lines().count() == 3 {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(!lines.contains("secret"), "{lines}");
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["path"].as_str().unwrap().len());
    let [nobody, post, get] = lines.as_slice() else { panic!("{lines:?}") };
    let check = |line: &Value, wanted: &[(&str, Value)]| {
        for (field, wanted) in wanted {
            assert_eq!(line[field], *wanted, "{field} of {line}");
        }
    };
    check(nobody, &[("status", 404.into()), ("namespace", Value::Null), ("endpoint", Value::Null)]);
    check(
        get,
        &[
            ("path", "/a%0A%22b".into()),
            ("kind", "Ingress".into()),
            ("namespace", "a".into()),
            ("route", "web".into()),
            ("host", "web.apps.test".into()),
            ("protocol", "HTTP/1.1".into()),
            ("tls", Value::Null),
            ("client", "127.0.0.1".into()),
            ("endpoint", backend.address.to_string().into()),
            ("attempts", 1.into()),
        ],
    );
    check(
        post,
        &[
            ("protocol", "HTTP/2".into()),
            ("tls", "TLSv1_3".into()),
            ("method", "POST".into()),
            ("received", 10.into()),
            ("sent", 10.into()),
            ("trace", TRACE.into()),
        ],
    );
    assert!(post["seconds"].as_f64() >= post["upstream_seconds"].as_f64(), "{post}");
    assert!(post["upstream_seconds"].as_f64().unwrap() > 0.0, "{post}");
    let text = world.metrics.render(&world.table);
    let labels = "kind=\"Ingress\",namespace=\"a\",name=\"web\"";
    for line in [
        format!("atoll_gateway_route_requests_total{{{labels},code=\"2xx\"}} 2"),
        format!("atoll_gateway_route_bytes_total{{{labels},direction=\"received\"}} 10"),
        format!("atoll_gateway_route_seconds_count{{{labels}}} 2"),
        "atoll_gateway_workspace_bytes_total{namespace=\"a\",direction=\"received\"} 10".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    assert!(!text.contains("name=\"idle\""), "nothing is kept of what nobody asks for");
    world.index.delete(gateway::object::Kind::Ingress, &gateway::object::Id::new("a", "web"));
    assert!(!world.metrics.render(&world.table).contains("name=\"web\""), "it goes with its object");
}
