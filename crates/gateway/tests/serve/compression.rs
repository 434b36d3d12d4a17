//! Answers that are compressed on their way.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;

use super::world::{Backend, World, full, header, long, stream};

fn unpack(coding: &str, bytes: &[u8]) -> String {
    let mut out = String::new();
    match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut out).unwrap(),
        _ => return String::from_utf8(bytes.to_vec()).unwrap(),
    };
    out
}

async fn world(value: &str) -> (World, Backend) {
    let backend = Backend::start("one").await;
    let mut world = World::start().await;
    let on = [(api::names::COMPRESSION_ANNOTATION, value)];
    world.app("web", "web.apps.test", &on, &[backend.address]);
    (world, backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_compressed_for_who_takes_it() {
    let (world, _backend) = world("on").await;
    let mut http1 = world.http1("web.apps.test").await;
    let mut http2 = world.http2("web.apps.test").await;
    for (accept, wanted) in
        [("gzip", "gzip"), ("gzip, br", "br"), ("br;q=0.1, gzip", "gzip"), ("identity", "")]
    {
        for path in ["/text", "/text-unknown-length", "/text-last-part-empty"] {
            for protocol in [1, 2] {
                let asked = Request::builder().header("accept-encoding", accept);
                let empty = full("");
                let answer = if protocol == 1 {
                    http1.ready().await.unwrap();
                    let asked = asked.uri(path).header("host", "web.apps.test").body(empty);
                    http1.send_request(asked.unwrap()).await.unwrap()
                } else {
                    let asked = asked.uri(format!("https://web.apps.test{path}")).body(empty);
                    http2.send_request(asked.unwrap()).await.unwrap()
                };
                let headers = answer.headers().clone();
                let get = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
                assert_eq!(
                    (get("content-encoding"), get("vary")),
                    (wanted, "accept-encoding"),
                    "{accept} {path}"
                );
                let etag = if wanted.is_empty() { "\"a\"" } else { "W/\"a\"" };
                assert_eq!(get("etag"), etag);
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(unpack(wanted, &body) == long(), "{accept} {path} {protocol}: {} bytes", body.len());
                assert!(wanted.is_empty() || body.len() < long().len() / 4, "{} bytes", body.len());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_changed_is_not() {
    let (mut world, _backend) = world("on").await;
    let check = async |world: &World, path: &str, headers: &str, wanted: &str| {
        let (_, answer) =
            world.ask("web.apps.test", path, &format!("Accept-Encoding: gzip\r\n{headers}")).await;
        assert_eq!(header(&answer, "content-encoding"), wanted, "{path} {headers}");
    };
    check(&world, "/text", "", "gzip").await;
    for path in ["/text-short", "/text-no-transform", "/text-part", "/text-events", "/text-image"] {
        check(&world, path, "", "").await;
    }
    // The gateway's own pages are short.
    check(&world, "/a/../b", "", "").await;
    let head = world
        .raw("HEAD /text HTTP/1.1\r\nHost: web.apps.test\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(
        (header(&head, "content-encoding"), header(&head, "content-length")),
        ("", long().len().to_string().as_str())
    );
    let old = world.raw("GET /text HTTP/1.0\r\nHost: web.apps.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    assert_eq!(header(&old, "content-encoding"), "");
    world.ingress("web", "web.apps.test", &[], false);
    check(&world, "/text", "", "").await;
    world.ingress("web", "web.apps.test", &[("configuration-snippet", "gzip on;")], false);
    check(&world, "/text", "", "gzip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_streams_still_streams() {
    let (world, _backend) = world("on").await;
    let mut http2 = world.http2("web.apps.test").await;
    let (to, from) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = futures::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|data| (Ok(Frame::data(data)), from))
    });
    let body = stream(frames);
    let asked = Request::builder()
        .method("POST")
        .uri("https://web.apps.test/text-echo")
        .header("accept-encoding", "gzip")
        .body(body)
        .unwrap();
    to.send("the first".into()).await.unwrap();
    let mut answer = http2.send_request(asked).await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let mut all = Vec::new();
    for part in ["the first", ", the second", ", the third"] {
        if part != "the first" {
            to.send(part.into()).await.unwrap();
        }
        // Nothing else is sent until this one is here.
        loop {
            let frame =
                tokio::time::timeout(Duration::from_secs(5), answer.body_mut().frame()).await.unwrap();
            all.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            std::io::Write::write_all(&mut decoder, &all).unwrap();
            std::io::Write::flush(&mut decoder).unwrap();
            if decoder.get_ref().ends_with(part.as_bytes()) {
                break;
            }
        }
    }
    drop(to);
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    all.extend_from_slice(&rest);
    assert_eq!(unpack("gzip", &all), "the first, the second, the third");
}
