//! What the programs cost. `cargo bench -p network` as root; the method is in
//! docs/benchmarks/network.md.
//!
//! Rounds with and without the programs take turns, so that whatever else the
//! machine does falls on both alike.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/packets/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Instant;

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use network::{Node, remove_all};

use crate::world::{INTERNET, World, in_a_world};

const ROUNDS: usize = 15;
const DATAGRAMS: u32 = 100_000;
const STREAM: usize = 256 << 20;

fn main() {
    in_a_world(|world| {
        let mut measured: [Measured; 2] = Default::default();
        let protected = |world: &World, on: bool| {
            if on {
                let mut node = Node::open(&world.config).unwrap();
                node.apply(&world.state()).unwrap();
                world.add(&world.red);
                world.add(&world.red_two);
            } else {
                remove_all(&world.config.bpffs).unwrap();
            }
        };
        // Warm, and not measured.
        datagrams(world, SocketAddr::new(INTERNET.parse().unwrap(), 9000));
        for _ in 0..ROUNDS {
            for (on, measured) in [false, true].into_iter().zip(&mut measured) {
                protected(world, on);
                measured.internet.push(datagrams(world, SocketAddr::new(INTERNET.parse().unwrap(), 9000)));
                measured.pod.push(datagrams(world, world.red_two.at(9000)));
                measured.stream.push(stream(world));
            }
        }
        let [without, with] = &mut measured;
        let line = |what: &str, without: &mut [f64], with: &mut [f64], unit: &str| {
            let (before, after) = (median(without), median(with));
            let change = after - before;
            println!(
                "{what}: {before:.0} {unit} without, {after:.0} with: {change:+.0} ({:+.1} %)",
                100.0 * change / before
            );
        };
        println!("median of {ROUNDS} rounds each, taking turns");
        line("datagram to the internet, one program", &mut without.internet, &mut with.internet, "ns");
        line("datagram to another pod, two programs", &mut without.pod, &mut with.pod, "ns");
        line("TCP to another pod", &mut without.stream, &mut with.stream, "MiB/s");
        alone(world, &protected);
    });
}

#[derive(Default)]
struct Measured {
    internet: Vec<f64>,
    pod: Vec<f64>,
    stream: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for a datagram of 64 bytes, sent and delivered; the sender's
/// processor does all of it.
fn datagrams(world: &World, at: SocketAddr) -> f64 {
    let to = if at.ip() == world.red_two.v4 { &world.red_two.namespace } else { &world.internet };
    let _sink = to.enter(|| UdpSocket::bind(at).unwrap());
    let client = world.red.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.connect(at).unwrap();
    let began = Instant::now();
    for _ in 0..DATAGRAMS {
        // What the receiver has no room for is lost, at the same price.
        let _ = client.send(&[0; 64]);
    }
    began.elapsed().as_nanos() as f64 / f64::from(DATAGRAMS)
}

/// MiB in a second by one TCP connection.
fn stream(world: &World) -> f64 {
    let at = world.red_two.at(9001);
    let server = world.red_two.namespace.enter(|| TcpListener::bind(at).unwrap());
    let receiver = thread::spawn(move || {
        let (mut socket, _) = server.accept().unwrap();
        let mut buffer = vec![0; 256 << 10];
        while socket.read(&mut buffer).unwrap() > 0 {}
    });
    let mut client = world.red.namespace.enter(|| TcpStream::connect(at).unwrap());
    let block = vec![1; 256 << 10];
    let began = Instant::now();
    for _ in 0..STREAM / block.len() {
        client.write_all(&block).unwrap();
    }
    drop(client);
    receiver.join().unwrap();
    (STREAM >> 20) as f64 / began.elapsed().as_secs_f64()
}

/// What the kernel says a run of each program takes, and how long the plugin
/// takes to attach both.
fn alone(world: &World, protected: &impl Fn(&World, bool)) {
    protected(world, false);
    let before: Vec<u32> =
        loaded_programs().filter_map(|program| program.ok().map(|program| program.id())).collect();
    protected(world, true);
    let stats = enable_stats(Stats::RunTime).unwrap();
    datagrams(world, world.red_two.at(9000));
    for program in loaded_programs().filter_map(Result::ok) {
        if before.contains(&program.id()) || program.run_count() < 1000 {
            continue;
        }
        println!(
            "{} alone: {:.0} ns a packet over {} packets, {} instructions, {} bytes of machine code",
            program.name_as_str().unwrap_or_default(),
            program.run_time().as_nanos() as f64 / program.run_count() as f64,
            program.run_count(),
            program.size_translated().unwrap_or_default() / 8,
            program.size_jitted(),
        );
    }
    drop(stats);
    let mut added: Vec<f64> = (0..20)
        .map(|_| {
            world.cni("DEL", &world.blue, |_| ()).unwrap();
            let began = Instant::now();
            world.add(&world.blue);
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    println!("ADD by the plugin: {:.0} ms", median(&mut added));
}
