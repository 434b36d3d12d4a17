//! Which ways are open, which are closed, and that nothing but the programs
//! closes them.

use network::{Granted, Node, Protocol, remove_all};

use crate::world::{
    API_SERVICE, BLUE_SERVICE, BRIEFLY, DNS_SERVICE, GATEWAY, How, INTERNET, INTERNET6, METADATA, NODE,
    NODE6, PATIENTLY, RED_SERVICE, Way, World, in_a_world,
};

fn address(ip: &str, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip.parse().unwrap(), port)
}

/// Every way that a tenant's pod must not go.
fn closed(world: &World) -> Vec<Way<'_>> {
    let World { red, red_two, blue, dns, stray, internet, host, .. } = world;
    let way = |name, how, target, at| Way { name, how, from: &red.namespace, source: None, target, at };
    let from = |source, way| Way { source: Some(source), ..way };
    let direct = |name, how, namespace, target| way(name, how, target, (namespace, target));
    vec![
        direct("another workspace's pod", How::Tcp, &blue.namespace, blue.at(8080)),
        direct("another workspace's pod, UDP", How::OneWay, &blue.namespace, blue.at(8080)),
        direct("another workspace's pod, fragments", How::LargeUdp, &blue.namespace, blue.at(8080)),
        direct("another workspace's pod, IPv6", How::Tcp, &blue.namespace, blue.at6(8080)),
        direct("another workspace's pod, IPv6, UDP", How::OneWay, &blue.namespace, blue.at6(8080)),
        way(
            "another workspace's service",
            How::Tcp,
            address(BLUE_SERVICE, 80),
            (&blue.namespace, blue.at(8080)),
        ),
        way(
            "another workspace's service, UDP",
            How::OneWay,
            address(BLUE_SERVICE, 80),
            (&blue.namespace, blue.at(8080)),
        ),
        way(
            "another workspace's node port",
            How::Tcp,
            address(NODE, 30080),
            (&blue.namespace, blue.at(8080)),
        ),
        way("the Kubernetes API's service", How::Tcp, address(API_SERVICE, 443), (host, address(NODE, 6443))),
        direct("the node", How::Tcp, host, address(NODE, 10250)),
        direct("the node, UDP", How::OneWay, host, address(NODE, 10250)),
        direct("the node, IPv6", How::Tcp, host, address(NODE6, 10250)),
        direct("the node's end of the link", How::Tcp, host, address(GATEWAY, 10250)),
        direct("metadata", How::Tcp, host, address(METADATA, 80)),
        direct("metadata, UDP", How::OneWay, host, address(METADATA, 80)),
        direct("a system pod's closed port", How::Tcp, &dns.namespace, dns.at(9153)),
        direct("a system pod's closed port, UDP", How::OneWay, &dns.namespace, dns.at(9153)),
        direct("a system pod's closed port, IPv6", How::Tcp, &dns.namespace, dns.at6(9153)),
        from(
            red.at(53),
            direct("a closed port from an open port's number", How::OneWay, &dns.namespace, dns.at(9153)),
        ),
        from(
            red.at(443),
            direct("a closed port from an open port's number, TCP", How::Tcp, &dns.namespace, dns.at(9153)),
        ),
        direct("an open port of the other protocol", How::Tcp, &dns.namespace, dns.at(53)),
        direct("a system pod's open port, fragments", How::LargeUdp, &dns.namespace, dns.at(53)),
        direct("an address of the pods' range that is nobody's", How::Tcp, &stray.namespace, stray.at(80)),
        from(
            blue.at(4000),
            direct("the internet, as another pod", How::Spoofed, internet, address(INTERNET, 80)),
        ),
        from(
            blue.at6(4000),
            direct("the internet, as another pod, IPv6", How::Spoofed, internet, address(INTERNET6, 80)),
        ),
        from(
            stray.at(4000),
            direct("one's own workspace, as nobody", How::Spoofed, &red_two.namespace, red_two.at(80)),
        ),
        Way {
            name: "from another workspace by an address of the pods' range that is nobody's",
            from: &stray.namespace,
            ..direct("", How::OneWay, &red.namespace, red.at(8080))
        },
    ]
}

/// Every way that must stay open.
fn open(world: &World) -> Vec<Way<'_>> {
    let World { red, red_two, dns, internet, host, .. } = world;
    let way = |name, how, from, target, at| Way { name, how, from, source: None, target, at };
    let tenant = &red.namespace;
    let direct = |name, how, from, namespace, target| way(name, how, from, target, (namespace, target));
    vec![
        direct("the same workspace", How::Tcp, tenant, &red_two.namespace, red_two.at(80)),
        direct("the same workspace, fragments", How::LargeUdp, tenant, &red_two.namespace, red_two.at(80)),
        direct("the same workspace, IPv6", How::Tcp, tenant, &red_two.namespace, red_two.at6(80)),
        direct("the same workspace, IPv6, UDP", How::Udp, tenant, &red_two.namespace, red_two.at6(80)),
        way(
            "the same workspace's service",
            How::Tcp,
            tenant,
            address(RED_SERVICE, 80),
            (&red_two.namespace, red_two.at(8080)),
        ),
        way("DNS", How::Udp, tenant, address(DNS_SERVICE, 53), (&dns.namespace, dns.at(53))),
        direct("DNS without its service", How::Udp, tenant, &dns.namespace, dns.at(53)),
        direct("DNS by IPv6", How::Udp, tenant, &dns.namespace, dns.at6(53)),
        direct("a system pod's open port", How::Tcp, tenant, &dns.namespace, dns.at(443)),
        direct("the internet", How::Tcp, tenant, internet, address(INTERNET, 80)),
        direct("the internet, IPv6", How::Tcp, tenant, internet, address(INTERNET6, 80)),
        direct("the internet, fragments", How::LargeUdp, tenant, internet, address(INTERNET, 80)),
        direct("from the internet", How::Tcp, internet, tenant, red.at(8080)),
        direct("from a system pod", How::Tcp, &dns.namespace, tenant, red.at(8080)),
        direct("from a system pod, UDP", How::Udp, &dns.namespace, tenant, red.at(8080)),
        direct("from a system pod, IPv6, UDP", How::Udp, &dns.namespace, tenant, red.at6(8080)),
        direct("from the node", How::Tcp, host, tenant, red.at(8080)),
        direct("from the node, UDP", How::Udp, host, tenant, red.at(8080)),
        direct("from the node, IPv6", How::Tcp, host, tenant, red.at6(8080)),
        direct("a system pod to the node", How::Tcp, &dns.namespace, host, address(NODE, 6443)),
        direct("the node to a system pod", How::Tcp, host, &dns.namespace, dns.at(9153)),
    ]
}

fn protect(world: &World) -> Node {
    let mut node = Node::open(&world.config).unwrap();
    node.apply(&world.state()).unwrap();
    for pod in world.pods() {
        world.add(pod);
    }
    world.red.namespace.command(&format!("ip addr add {}/32 dev eth0", world.blue.v4));
    world.red.namespace.command(&format!("ip addr add {}/128 dev eth0 nodad", world.blue.v6));
    world.red.namespace.command(&format!("ip addr add {}/32 dev eth0", world.stray.v4));
    node
}

/// The address that the spoofer holds would be taken for its own by its kernel.
fn unspoof(world: &World) {
    world.red.namespace.command(&format!("ip addr del {}/32 dev eth0", world.blue.v4));
    world.red.namespace.command(&format!("ip addr del {}/128 dev eth0", world.blue.v6));
    world.red.namespace.command(&format!("ip addr del {}/32 dev eth0", world.stray.v4));
}

fn unexpected<'a>(world: &World, ways: &'a [Way<'a>], open: bool) -> Vec<&'a str> {
    let (spoofed, others): (Vec<_>, Vec<_>) = ways.iter().partition(|way| way.how == How::Spoofed);
    let mut names = wrong(spoofed, open);
    unspoof(world);
    names.extend(wrong(others, open));
    names
}

/// Those that are not as they should be.
fn wrong<'a>(ways: impl IntoIterator<Item = &'a Way<'a>>, open: bool) -> Vec<&'a str> {
    let patience = if open { PATIENTLY } else { BRIEFLY };
    ways.into_iter().filter(|way| way.is_open(patience) != open).map(|way| way.name).collect()
}

#[test]
fn what_is_closed_is_closed_by_the_programs_alone() {
    in_a_world(|world| {
        let node = protect(world);
        let ways = closed(world);
        assert_eq!(unexpected(world, &ways, false), [""; 0], "open, but must be closed");
        drop(node);
        remove_all(&world.config.bpffs).unwrap();
        for (ip, length) in [(world.blue.v4, 32), (world.blue.v6, 128), (world.stray.v4, 32)] {
            let nodad = if ip.is_ipv6() { "nodad" } else { "" };
            world.red.namespace.command(&format!("ip addr add {ip}/{length} dev eth0 {nodad}"));
        }
        assert_eq!(unexpected(world, &ways, true), [""; 0], "closed by something else");
    });
}

#[test]
fn what_must_be_open_is_open() {
    in_a_world(|world| {
        let _node = protect(world);
        let ways = open(world);
        assert_eq!(unexpected(world, &ways, true), [""; 0], "closed, but must be open");
    });
}

#[test]
fn peers_reach_what_is_granted_and_nothing_else() {
    in_a_world(|world| {
        let mut node = protect(world);
        unspoof(world);
        let World { red, red_two, blue, .. } = world;
        let to_blue = |name, how, target| Way {
            name,
            how,
            from: &red.namespace,
            source: None,
            target,
            at: (&blue.namespace, target),
        };
        let service = || Way {
            name: "the port by a service",
            how: How::Tcp,
            from: &red.namespace,
            source: None,
            target: address(BLUE_SERVICE, 80),
            at: (&blue.namespace, blue.at(8080)),
        };
        let granted = || {
            vec![
                to_blue("the port", How::Tcp, blue.at(8080)),
                to_blue("the port, IPv6", How::Tcp, blue.at6(8080)),
                service(),
                to_blue("the port, UDP", How::Udp, blue.at(5353)),
            ]
        };
        let back = |name, how, source, target| Way {
            name,
            how,
            from: &blue.namespace,
            source,
            target,
            at: (&red.namespace, target),
        };
        let others = || {
            vec![
                to_blue("another port", How::Tcp, blue.at(8081)),
                to_blue("the port of the other protocol", How::OneWay, blue.at(8080)),
                to_blue("the other protocol's port", How::Tcp, blue.at(5353)),
                to_blue("fragments", How::LargeUdp, blue.at(5353)),
                back("back", How::Tcp, None, red.at(8080)),
                back("back from the port", How::Tcp, Some(blue.at(8080)), red.at(8080)),
                back("back from the port, UDP", How::OneWay, Some(blue.at(5353)), red.at(5353)),
                Way {
                    at: (&red_two.namespace, red_two.at(8080)),
                    ..back("to its neighbour", How::Tcp, None, red_two.at(8080))
                },
            ]
        };
        let closed: Vec<_> = granted().into_iter().chain(others()).collect();
        assert_eq!(wrong(&closed, false), [""; 0], "open without a grant");

        let mut state = world.state();
        let grant = |state: &mut network::DesiredState, ports: &[Option<(Protocol, u16)>]| {
            let of_blue = state.pods.iter_mut().find(|pod| pod.namespace == blue.kind.namespace).unwrap();
            let from = || red.kind.namespace.to_owned();
            of_blue.granted = ports.iter().map(|port| Granted { from: from(), port: *port }).collect();
        };
        grant(&mut state, &[Some((Protocol::Tcp, 8080)), Some((Protocol::Udp, 5353))]);
        node.apply(&state).unwrap();
        assert_eq!(wrong(&granted(), true), [""; 0], "closed with a grant");
        assert_eq!(wrong(&others(), false), [""; 0], "open beside the grant");

        // What was open ends when the grant does, connections and answers as well.
        let listener = blue.namespace.enter(|| std::net::TcpListener::bind(blue.at(8080)).unwrap());
        let mut client = red.namespace.enter(|| std::net::TcpStream::connect(blue.at(8080)).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        let mut says = |patience| {
            use std::io::{Read, Write};
            client.write_all(b"x").unwrap();
            server.set_read_timeout(Some(patience)).unwrap();
            server.read_exact(&mut [0]).is_ok()
        };
        assert!(says(PATIENTLY), "a connection within the grant");
        let (asker, answerer) = (
            red.namespace.enter(|| std::net::UdpSocket::bind(red.at(4000)).unwrap()),
            blue.namespace.enter(|| std::net::UdpSocket::bind(blue.at(5353)).unwrap()),
        );
        asker.send_to(b"ask", blue.at(5353)).unwrap();
        answerer.set_read_timeout(Some(PATIENTLY)).unwrap();
        answerer.recv_from(&mut [0; 8]).unwrap();
        grant(&mut state, &[]);
        node.apply(&state).unwrap();
        assert!(!says(BRIEFLY), "the connection goes on");
        answerer.send_to(b"late", red.at(4000)).unwrap();
        asker.set_read_timeout(Some(BRIEFLY)).unwrap();
        assert!(asker.recv_from(&mut [0; 8]).is_err(), "the answer comes");
        drop((listener, asker, answerer));
        assert_eq!(wrong(&closed, false), [""; 0], "open after the grant");

        // All that there is.
        grant(&mut state, &[None]);
        node.apply(&state).unwrap();
        let all =
            [to_blue("any port", How::Tcp, blue.at(8081)), to_blue("any port, UDP", How::Udp, blue.at(9))];
        assert_eq!(wrong(&all, true), [""; 0], "closed with a grant of all");
        let back = [back("back", How::Tcp, None, red.at(8080))];
        assert_eq!(wrong(&back, false), [""; 0], "open with a grant of all");
    });
}

#[test]
fn a_grant_is_not_handed_on_with_an_address() {
    in_a_world(|world| {
        let mut node = protect(world);
        unspoof(world);
        let World { red, blue, .. } = world;
        let mut state = world.state();
        let of_blue = state.pods.iter_mut().find(|pod| pod.namespace == blue.kind.namespace).unwrap();
        of_blue.granted = vec![Granted { from: red.kind.namespace.into(), port: None }];
        node.apply(&state).unwrap();
        let way = Way {
            name: "the pod that has the address",
            how: How::Tcp,
            from: &red.namespace,
            source: None,
            target: blue.at(8080),
            at: (&blue.namespace, blue.at(8080)),
        };
        assert!(way.is_open(PATIENTLY));
        // The runtime gives the address to a pod of another workspace, and the agent hasn't
        // heard of it.
        world.cni("DEL", blue, |_| ()).unwrap();
        state.namespaces.insert("green-mnpqrs".into(), network::Owner::Workspace("green-mnpqrs".into()));
        node.apply(&state).unwrap();
        let pod = crate::world::Pod {
            kind: crate::world::Kind { name: "green", namespace: "green-mnpqrs", number: blue.kind.number },
            namespace: crate::world::Namespace::new("green"),
            interface: blue.interface.clone(),
            v4: blue.v4,
            v6: blue.v6,
        };
        world.add(&pod);
        assert!(!way.is_open(BRIEFLY), "who has the address now granted nothing");
    });
}

#[test]
fn a_datagrams_answer_goes_to_who_asked_and_to_no_other_port() {
    in_a_world(|world| {
        let _node = protect(world);
        unspoof(world);
        let World { red, dns, .. } = world;
        let socket = |pod: &crate::world::Pod, port| {
            pod.namespace.enter(|| std::net::UdpSocket::bind(pod.at(port)).unwrap())
        };
        let (asker, bystander, tenant) = (socket(dns, 5000), socket(dns, 5001), socket(red, 6000));
        let hears = |socket: &std::net::UdpSocket, patience| {
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.recv_from(&mut [0; 8]).is_ok()
        };
        tenant.send_to(b"unasked", dns.at(5000)).unwrap();
        assert!(!hears(&asker, BRIEFLY), "nobody had asked");
        asker.send_to(b"ask", red.at(6000)).unwrap();
        assert!(hears(&tenant, PATIENTLY));
        tenant.send_to(b"answer", dns.at(5000)).unwrap();
        assert!(hears(&asker, PATIENTLY), "an answer");
        tenant.send_to(b"more", dns.at(5001)).unwrap();
        assert!(!hears(&bystander, BRIEFLY), "that port did not ask");
        let other = socket(red, 6001);
        other.send_to(b"more", dns.at(5000)).unwrap();
        assert!(!hears(&asker, BRIEFLY), "that port was not asked");
    });
}

#[test]
fn a_pod_talks_to_nobody_until_its_workspace_is_known() {
    in_a_world(|world| {
        let mut node = Node::open(&world.config).unwrap();
        let mut state = world.state();
        let (name, owner) = state.namespaces.remove_entry("red-abcdef").unwrap();
        node.apply(&state).unwrap();
        for pod in world.pods() {
            world.add(pod);
        }
        let ways = [
            Way {
                name: "the internet",
                how: How::Tcp,
                from: &world.red.namespace,
                source: None,
                target: address(INTERNET, 80),
                at: (&world.internet, address(INTERNET, 80)),
            },
            Way {
                name: "from a system pod",
                how: How::Tcp,
                from: &world.dns.namespace,
                source: None,
                target: world.red.at(80),
                at: (&world.red.namespace, world.red.at(80)),
            },
            Way {
                name: "DNS",
                how: How::Udp,
                from: &world.red.namespace,
                source: None,
                target: world.dns.at(53),
                at: (&world.dns.namespace, world.dns.at(53)),
            },
        ];
        for way in &ways {
            assert!(!way.is_open(BRIEFLY), "{} is open", way.name);
        }
        state.namespaces.insert(name, owner);
        node.apply(&state).unwrap();
        for way in &ways {
            assert!(way.is_open(PATIENTLY), "{} is closed", way.name);
        }
    });
}
