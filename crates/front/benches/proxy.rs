//! What front adds to a small GET: the same request on a kept connection, to the
//! pretended API server directly and through front. What it costs to tell whose
//! a token is stands beside it.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;

#[allow(dead_code)]
#[path = "../tests/serve/world.rs"]
mod world;

use world::{World, get};

async fn open(world: &World, address: Option<SocketAddr>) -> SendRequest<Full<Bytes>> {
    let stream = match address {
        Some(address) => world.connect_to(address, b"http/1.1").await,
        None => world.connect(b"http/1.1").await,
    };
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn once(sender: &mut SendRequest<Full<Bytes>>, token: &str) {
    sender.ready().await.unwrap();
    let answer = sender.send_request(get("/api/v1/namespaces/one-x/pods/p", token)).await.unwrap();
    assert_eq!(answer.status(), 200);
    black_box(answer.into_body().collect().await.unwrap());
}

fn proxy(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (world, token) = runtime.block_on(async {
        let world = World::new().await;
        let token = world.account("ada");
        world.workspace("one", "ada");
        (world, token)
    });
    let mut group = criterion.benchmark_group("get");
    for (name, address) in [("direct", Some(world.upstream)), ("front", None)] {
        let mut sender = runtime.block_on(open(&world, address));
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(once(&mut sender, &token)));
            world.seen();
        });
    }
    group.finish();
    criterion.bench_function("verify", |bencher| {
        bencher.iter(|| world.verifier.verify(black_box(&token), identity::now()).unwrap());
    });
}

criterion_group!(benches, proxy);
criterion_main!(benches);
