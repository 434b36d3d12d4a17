//! What is counted is what was sent.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use network::{Class, Counter, Counts, Direction, Node};
use serde_json::Value;

use crate::world::{BLUE, INTERNET, INTERNET6, Namespace, World, in_a_world};

const MIB: usize = 1 << 20;

fn add(a: Counter, b: Counter) -> Counter {
    Counter { bytes: a.bytes + b.bytes, packets: a.packets + b.packets }
}

fn all(counts: &Counts, direction: Direction) -> Counter {
    counts
        .iter()
        .filter(|(way, ..)| *way == direction)
        .fold(Counter::default(), |sum, (.., counter)| add(sum, counter))
}

fn reading(node: &Node, name: &str) -> Counts {
    let readings = node.readings().unwrap();
    readings.into_iter().find(|reading| reading.name == name).unwrap().counts
}

/// What the kernel's own queue says went out by an interface: bytes and packets
/// on a wire.
fn queue(namespace: &Namespace, interface: &str) -> Counter {
    let text = namespace.command(&format!("tc -s -j qdisc show dev {interface} root"));
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed[0]["drops"], 0, "the queue itself dropped: {parsed}");
    Counter { bytes: parsed[0]["bytes"].as_u64().unwrap(), packets: parsed[0]["packets"].as_u64().unwrap() }
}

fn put_queue(namespace: &Namespace, interface: &str) {
    namespace.command(&format!("tc qdisc replace dev {interface} root pfifo limit 10000"));
}

/// Sends by TCP and waits until all has arrived.
fn stream(from: &Namespace, to: &Namespace, at: SocketAddr, bytes: usize) {
    let server = to.enter(|| TcpListener::bind(at).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = server.accept().unwrap();
            let mut buffer = vec![0; 256 << 10];
            let mut left = bytes;
            while left > 0 {
                left -= socket.read(&mut buffer).unwrap();
            }
            socket.write_all(b"!").unwrap();
        });
        let mut client = from.enter(|| TcpStream::connect(at).unwrap());
        let block = vec![1; MIB];
        for _ in 0..bytes / MIB {
            client.write_all(&block).unwrap();
        }
        client.read_exact(&mut [0]).unwrap();
    });
}

/// Sends datagrams and waits for each twenty to arrive: the receiver has room for
/// so many, so that none is lost.
fn datagrams(from: &Namespace, to: &Namespace, at: SocketAddr, count: usize, size: usize) {
    let server = to.enter(|| UdpSocket::bind(at).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = from.enter(|| UdpSocket::bind(any).unwrap());
    let (block, mut buffer) = (vec![2; size], vec![0; size]);
    for sent in 0..count {
        client.send_to(&block, at).unwrap();
        if sent % 20 == 19 {
            (0..20).for_each(|_| assert_eq!(server.recv(&mut buffer).unwrap(), size));
        }
    }
}

fn ready(world: &World) -> Node {
    let mut node = Node::open(&world.config).unwrap();
    node.apply(&world.state()).unwrap();
    for pod in world.pods() {
        world.add(pod);
    }
    node
}

fn since(now: Counter, before: Counter) -> Counter {
    Counter { bytes: now.bytes - before.bytes, packets: now.packets - before.packets }
}

/// What the programs of the red pod counted, sent and let in, and beside it what
/// the queues at both ends of its link did. It waits for a moment in which
/// nothing is under way.
fn quiet(world: &World, node: &Node) -> ([Counter; 2], [Counter; 2]) {
    let look = || {
        let counts = reading(node, "red");
        // The queue stands behind the program: it never sees what was dropped.
        let passed =
            since(all(&counts, Direction::Received), counts.get(Direction::Received, Class::Dropped));
        let queues = [queue(&world.red.namespace, "eth0"), queue(&world.host, &world.red.interface)];
        ([all(&counts, Direction::Sent), passed], queues)
    };
    let mut last = look();
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = look();
        if now == last {
            return now;
        }
        last = now;
    }
}

#[test]
fn datagrams_are_counted_to_the_byte() {
    in_a_world(|world| {
        let node = ready(world);
        let World { red, red_two, dns, blue, internet, .. } = world;
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 9000);
        // Ethernet, IP and UDP before each.
        let expect =
            |count: u64, size: u64, headers: u64| Counter { bytes: count * (size + headers), packets: count };
        datagrams(&red.namespace, internet, at(INTERNET), 1000, 1000);
        datagrams(&red.namespace, internet, at(INTERNET6), 500, 700);
        datagrams(&red.namespace, &red_two.namespace, red_two.at(9000), 300, 1);
        datagrams(&dns.namespace, &red.namespace, red.at(9000), 200, 50);
        let intruder = red.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        (0..7).for_each(|_| assert_eq!(intruder.send_to(&[0; 10], blue.at(1)).unwrap(), 10));

        let (sender, receiver) = (reading(&node, "red"), reading(&node, "red-two"));
        let internet = add(expect(1000, 1000, 42), expect(500, 700, 62));
        assert_eq!(sender.get(Direction::Sent, Class::Internet), internet);
        assert_eq!(sender.get(Direction::Sent, Class::Workspace), expect(300, 1, 42));
        assert_eq!(receiver.get(Direction::Received, Class::Workspace), expect(300, 1, 42));
        assert_eq!(sender.get(Direction::Received, Class::Cluster), expect(200, 50, 42));
        assert_eq!(reading(&node, "dns").get(Direction::Sent, Class::Cluster), expect(200, 50, 42));
        let dropped = sender.get(Direction::Sent, Class::Dropped);
        assert!(dropped.packets >= 7 && dropped.bytes >= 7 * 52, "{dropped:?}");
        let intruded = reading(&node, BLUE.name).get(Direction::Received, Class::Workspace);
        assert_eq!(intruded, Counter::default());
    });
}

#[test]
fn a_hundred_megabytes_are_counted_exactly_while_the_agent_comes_and_goes() {
    in_a_world(|world| {
        let World { red, red_two, internet, host, .. } = world;
        let outside = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let node = ready(world);
        let epoch = node.epoch().to_owned();
        put_queue(&red.namespace, "eth0");
        put_queue(host, &red.interface);
        let (before, queues_before) = quiet(world, &node);
        let mut node = Some(node);

        let mut lives = 0;
        thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                thread::scope(|both| {
                    both.spawn(|| stream(&red.namespace, internet, outside(INTERNET, 80), 24 * MIB));
                    both.spawn(|| stream(&red.namespace, internet, outside(INTERNET6, 81), 24 * MIB));
                    both.spawn(|| stream(internet, &red.namespace, red.at(82), 16 * MIB));
                    both.spawn(|| stream(internet, &red.namespace, red.at6(83), 16 * MIB));
                });
                stream(&red.namespace, &red_two.namespace, red_two.at(84), 16 * MIB);
                stream(&red_two.namespace, &red.namespace, red.at6(85), 16 * MIB);
                datagrams(&red.namespace, internet, outside(INTERNET, 86), 3000, 1400);
                datagrams(internet, &red.namespace, red.at6(87), 3000, 1200);
            });
            while !traffic.is_finished() || lives < 3 {
                drop(node.take());
                thread::sleep(Duration::from_millis(20));
                let mut again = Node::open(&world.config).unwrap();
                assert_eq!(again.epoch(), epoch);
                again.apply(&world.state()).unwrap();
                node = Some(again);
                lives += 1;
            }
        });
        let node = node.unwrap();
        let (after, queues_after) = quiet(world, &node);
        let [sent, passed] = [0, 1].map(|way| since(after[way], before[way]));
        let queues = [0, 1].map(|way| since(queues_after[way], queues_before[way]));
        assert_eq!([sent, passed], queues, "the programs, and the kernel's queues");
        assert!(sent.bytes > 70_000_000 && passed.bytes > 50_000_000, "{sent:?} {passed:?}");

        let counts = reading(&node, "red");
        // Both ends of the same traffic say the same.
        let other = reading(&node, "red-two");
        for (one, two) in [(Direction::Sent, Direction::Received), (Direction::Received, Direction::Sent)] {
            assert_eq!(counts.get(one, Class::Workspace), other.get(two, Class::Workspace));
        }
        // Large packets were there, each counted as the many that it becomes.
        let text = host.command(&format!("ip -s -j link show {}", red.interface));
        let links: Value = serde_json::from_str(&text).unwrap();
        let large = links[0]["stats64"]["rx"]["packets"].as_u64().unwrap();
        assert!(large * 2 < sent.packets, "{large} as the link counts, {} on a wire", sent.packets);

        // The last reading is the same, when all is gone.
        world.cni("DEL", red, |_| ()).unwrap();
        host.command(&format!("ip link del {}", red.interface));
        let ended = node.collect_ended(&BTreeSet::new()).unwrap();
        assert_eq!(ended.len(), 1);
        let last = ended[0].counts.get(Direction::Sent, Class::Internet);
        assert_eq!(last, counts.get(Direction::Sent, Class::Internet));
    });
}

#[test]
fn a_pods_second_sandbox_counts_on() {
    in_a_world(|world| {
        let node = ready(world);
        let World { red, internet, .. } = world;
        let at = SocketAddr::new(INTERNET.parse().unwrap(), 9000);
        datagrams(&red.namespace, internet, at, 100, 100);
        world.cni("DEL", red, |_| ()).unwrap();
        world.add(red);
        datagrams(&red.namespace, internet, at, 100, 100);
        let sent = reading(&node, "red").get(Direction::Sent, Class::Internet);
        assert!(sent.packets >= 200, "{sent:?}");
        let mine = node.readings().unwrap().into_iter().filter(|reading| reading.name == "red").count();
        assert_eq!(mine, 1);
    });
}
