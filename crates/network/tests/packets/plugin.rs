//! The plugin, as a container runtime calls it.

use std::collections::BTreeSet;

use aya::programs::{SchedClassifier, TcAttachType};
use network::{Class, Config, Direction, Node, remove_all};
use serde_json::json;

use crate::world::{BRIEFLY, How, INTERNET, PATIENTLY, Way, World, in_a_world};

fn neighbour(world: &World) -> Way<'_> {
    Way {
        name: "the same workspace",
        how: How::Udp,
        from: &world.red.namespace,
        source: None,
        target: world.red_two.at(80),
        at: (&world.red_two.namespace, world.red_two.at(80)),
    }
}

fn outward(world: &World) -> Way<'_> {
    let target = std::net::SocketAddr::new(INTERNET.parse().unwrap(), 80);
    Way { name: "the internet", how: How::OneWay, target, at: (&world.internet, target), ..neighbour(world) }
}

#[test]
fn the_result_of_the_plugin_before_is_passed_on() {
    in_a_world(|world| {
        let result = world.cni("ADD", &world.red, |_| ()).unwrap();
        assert_eq!(result["interfaces"][1]["name"], "eth0");
        assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]));
        assert_eq!(result["cniVersion"], "1.0.0");
    });
}

#[test]
fn a_pod_that_cannot_be_protected_does_not_start() {
    in_a_world(|world| {
        let fails = |what: &str, change: fn(&mut serde_json::Value)| {
            let error = world.cni("ADD", &world.red, change).unwrap_err();
            let said = error["msg"].as_str().unwrap_or_default();
            assert!(said.contains(what), "{error}");
            assert!(error["code"].as_u64().is_some_and(|code| code > 0), "{error}");
            assert!(!said.contains('\n'), "{error}");
        };
        fails("no-such.o", |network| network["program"] = json!("/no-such.o"));
        fails("/dev/null", |network| network["program"] = json!("/dev/null"));
        fails("prevResult is missing", |network| network["prevResult"] = json!(null));
        fails("has 0 interfaces", |network| network["prevResult"]["interfaces"] = json!([]));
        fails("gone0", |network| network["prevResult"]["interfaces"][0]["name"] = json!("gone0"));
        fails("no address", |network| network["prevResult"]["ips"] = json!([]));
        fails("is not spoken here", |network| network["cniVersion"] = json!("9.0.0"));
        // What failed half way is neither attached nor counted as there.
        let node = Node::open(&world.config).unwrap();
        assert!(node.readings().unwrap().iter().all(|reading| reading.ended));
        assert_eq!(node.collect_ended(&BTreeSet::new()).unwrap().len(), 1);
    });
}

#[test]
fn check_sees_what_is_missing() {
    in_a_world(|world| {
        let check = || world.cni("CHECK", &world.red, |_| ());
        assert!(check().is_err(), "before it was added");
        world.add(&world.red);
        check().unwrap();
        let moved = world.cni("CHECK", &world.red, |network| {
            network["prevResult"]["ips"][0]["address"] = json!("10.244.0.99/24");
        });
        assert!(moved.unwrap_err()["msg"].as_str().unwrap().contains("addresses"));
        let links = world.config.bpffs.join("atoll/v1/links");
        let sent = std::fs::read_dir(&links).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(sent).unwrap();
        let error = check().unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("not attached"), "{error}");
        remove_all(&world.config.bpffs).unwrap();
        assert!(check().is_err());
    });
}

#[test]
fn versions_and_status_are_told() {
    in_a_world(|world| {
        let versions = world.cni("VERSION", &world.red, |_| ()).unwrap();
        assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")));
        let status = || world.cni("STATUS", &world.red, |_| ());
        assert_eq!(status().unwrap_err()["code"], 50);
        let _node = Node::open(&world.config).unwrap();
        status().unwrap();
    });
}

#[test]
fn deletion_closes_the_link_at_once_and_is_forgiving() {
    in_a_world(|world| {
        let mut node = Node::open(&world.config).unwrap();
        node.apply(&world.state()).unwrap();
        world.cni("DEL", &world.red, |_| ()).unwrap();
        for pod in world.pods() {
            world.add(pod);
        }
        assert!(neighbour(world).is_open(PATIENTLY) && outward(world).is_open(PATIENTLY));
        world.cni("DEL", &world.red, |_| ()).unwrap();
        world.cni("DEL", &world.red, |_| ()).unwrap();
        assert!(!neighbour(world).is_open(BRIEFLY), "the link is still there, but nobody's");
        assert!(!outward(world).is_open(BRIEFLY), "the link is still there, but nobody's");
        // The agent may hear of the pod for a while yet.
        node.apply(&world.state()).unwrap();
        assert!(!neighbour(world).is_open(BRIEFLY));
        assert!(node.collect_ended(&BTreeSet::new()).unwrap().is_empty(), "its link is there");

        world.host.command(&format!("ip link del {}", world.red.interface));
        let alive = BTreeSet::from([world.red.uid()]);
        assert!(node.collect_ended(&alive).unwrap().is_empty(), "it may get a new sandbox");
        let ended = node.collect_ended(&BTreeSet::new()).unwrap();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].uid.as_str(), ended[0].name.as_str()), ("uid-of-red", "red"));
        assert!(node.forget("uid-of-red").unwrap());
        assert!(!node.forget("uid-of-blue").unwrap(), "it lives");
        let left: Vec<_> = node.readings().unwrap().into_iter().map(|reading| reading.name).collect();
        assert_eq!(left, ["red-two", "blue", "dns"]);
    });
}

#[test]
fn sandboxes_that_the_runtime_lost_are_collected() {
    in_a_world(|world| {
        let mut node = Node::open(&world.config).unwrap();
        node.apply(&world.state()).unwrap();
        for pod in world.pods() {
            world.add(pod);
        }
        world
            .cni("GC", &world.red, |network| {
                network["cni.dev/valid-attachments"] =
                    json!([{ "containerID": "sandbox-of-red", "ifname": "eth0" }]);
            })
            .unwrap();
        let ended: Vec<_> = node.readings().unwrap().into_iter().map(|reading| reading.ended).collect();
        assert_eq!(ended, [false, true, true, true]);
    });
}

#[test]
fn pods_that_run_are_given_a_new_program_in_place_of_the_old() {
    in_a_world(|world| {
        let mut node = Node::open(&world.config).unwrap();
        node.apply(&world.state()).unwrap();
        for pod in world.pods() {
            world.add(pod);
        }
        let running = || -> Vec<u32> {
            let sides = [TcAttachType::Ingress, TcAttachType::Egress];
            let programs = sides
                .into_iter()
                .flat_map(|side| SchedClassifier::query_tcx(&world.red.interface, side).unwrap().1);
            programs.map(|program| program.id()).collect()
        };
        let first = running();
        assert_eq!(first.len(), 2);
        assert!(neighbour(world).is_open(PATIENTLY));
        drop(node);

        // Another build: how long an entry is fresh differs by a nanosecond.
        let mut object = std::fs::read(&world.config.program).unwrap();
        let fresh = 5_000_000_000_u64.to_le_bytes();
        let places: Vec<_> = object
            .windows(4)
            .enumerate()
            .filter(|(_, bytes)| *bytes == &fresh[..4])
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "the program has no such number");
        places.into_iter().for_each(|at| object[at] += 1);
        let folder = tempfile::tempdir().unwrap();
        let config = Config { program: folder.path().join("network.o"), ..world.config.clone() };
        std::fs::write(&config.program, object).unwrap();

        let node = Node::open(&config).unwrap();
        let second = running();
        assert_eq!(second.len(), 2, "one program on each side");
        assert!(second.iter().all(|id| !first.contains(id)), "{first:?} {second:?}");
        assert!(neighbour(world).is_open(PATIENTLY));
        let readings = node.readings().unwrap();
        let red = readings.iter().find(|reading| reading.name == "red").unwrap();
        assert_eq!(red.counts.get(Direction::Sent, Class::Workspace).packets, 2, "it counts on");
        drop(Node::open(&config).unwrap());
        assert_eq!(running(), second, "what runs already stays");
    });
}
