use super::*;
use crate::policy::Peer;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(namespace: &str, address: &str) -> PodState {
    PodState {
        namespace: namespace.into(),
        addresses: vec![ip(address)],
        open: vec![(Protocol::Tcp, 443)],
        granted: Vec::new(),
    }
}

fn local(namespace: &str, address: &str) -> LocalPod {
    LocalPod {
        uid: format!("uid-{address}"),
        namespace: namespace.into(),
        name: "web".into(),
        sandbox: "s".into(),
        interface: "veth0".into(),
        addresses: vec![ip(address)],
        identity: UNKNOWN,
        ended: false,
    }
}

fn state() -> DesiredState {
    DesiredState {
        namespaces: BTreeMap::from([
            ("red".into(), Owner::Workspace("red".into())),
            ("blue".into(), Owner::Workspace("blue".into())),
            ("kube-system".into(), Owner::System),
        ]),
        pods: vec![pod("red", "10.244.0.5"), pod("blue", "10.244.1.6"), pod("kube-system", "10.244.0.2")],
        nodes: vec![NodeState {
            addresses: vec![ip("192.0.2.10"), ip("10.96.0.1")],
            pod_ranges: nets(&["10.244.0.0/24", "fd00:244::/64"]),
        }],
        pod_ranges: nets(&["10.244.0.0/16", "fd00:244::/48"]),
        service_ranges: nets(&["10.96.0.0/12"]),
        reserved: nets(&["10.96.0.1/32", "10.96.0.2/32", "203.0.113.0/24"]),
    }
}

/// Looks an address up as the kernel half does.
fn peer(tables: &Tables, address: &str) -> Peer {
    let key = address::key(ip(address));
    if let Some(identity) = tables.addresses.get(&key) {
        return Peer::pod(*identity);
    }
    let bits = |address: &Address| {
        address.iter().fold(0u128, |sum, word| sum << 32 | u128::from(u32::from_be(*word)))
    };
    let matching = tables
        .ranges
        .iter()
        .filter(|((length, first), _)| *length == 0 || (bits(first) ^ bits(&key)) >> (128 - length) == 0);
    Peer::of(matching.max_by_key(|((length, _), _)| *length).map_or(Range::Internet, |(_, range)| *range))
}

#[test]
fn every_address_is_what_it_is() {
    let tables = plan(&state(), &[]);
    let red = Owner::Workspace("red".into()).identity();
    for (address, expected) in [
        ("10.244.0.5", Peer::pod(red)),
        ("10.244.0.2", Peer::pod(SYSTEM)),
        ("10.244.0.77", Peer::of(Range::Vacant)),
        ("10.244.99.1", Peer::of(Range::Vacant)),
        ("fd00:244:0:1::9", Peer::of(Range::Vacant)),
        ("10.244.0.0", Peer::of(Range::Node)),
        ("10.244.0.1", Peer::of(Range::Node)),
        ("fd00:244::1", Peer::of(Range::Node)),
        ("192.0.2.10", Peer::of(Range::Node)),
        ("192.0.2.11", Peer::of(Range::Internet)),
        ("10.96.0.10", Peer::of(Range::Service)),
        ("10.96.0.2", Peer::of(Range::Reserved)),
        ("203.0.113.9", Peer::of(Range::Reserved)),
        ("169.254.169.254", Peer::of(Range::Reserved)),
        ("fd00:ec2::254", Peer::of(Range::Reserved)),
        ("fe80::1", Peer::of(Range::Reserved)),
        ("ff02::1", Peer::of(Range::Reserved)),
        ("224.0.0.1", Peer::of(Range::Reserved)),
        ("255.255.255.255", Peer::of(Range::Reserved)),
        ("127.0.0.1", Peer::of(Range::Reserved)),
        ("1.1.1.1", Peer::of(Range::Internet)),
        ("223.255.255.255", Peer::of(Range::Internet)),
        ("2001:db8::1", Peer::of(Range::Internet)),
    ] {
        assert_eq!(peer(&tables, address), expected, "{address}");
    }
}

#[test]
fn a_node_answers_probes_even_at_a_reserved_address() {
    assert_eq!(peer(&plan(&state(), &[]), "10.96.0.1"), Peer::of(Range::Node));
}

#[test]
fn pods_of_a_namespace_that_is_nobodys_are_unknown() {
    let mut state = state();
    state.pods.push(pod("stranger", "10.244.0.9"));
    assert_eq!(peer(&plan(&state, &[]), "10.244.0.9"), Peer::pod(UNKNOWN));
}

#[test]
fn no_pod_takes_the_address_of_something_else() {
    for address in ["192.0.2.10", "10.96.0.10", "1.1.1.1", "10.244.0.1"] {
        let mut state = state();
        let before = peer(&plan(&state, &[]), address);
        state.pods.push(pod("red", address));
        assert_eq!(peer(&plan(&state, &[]), address), before, "{address}");
    }
}

#[test]
fn an_address_that_two_claim_is_nobodys() {
    let mut state = state();
    state.pods.push(pod("blue", "10.244.0.5"));
    assert_eq!(peer(&plan(&state, &[]), "10.244.0.5"), Peer::pod(UNKNOWN));
    state.pods.push(pod("red", "10.244.0.5"));
    assert_eq!(peer(&plan(&state, &[]), "10.244.0.5"), Peer::pod(UNKNOWN), "a third claim settles nothing");
    let tables = plan(&state, &[local("blue", "10.244.0.5")]);
    let blue = Owner::Workspace("blue".into()).identity();
    assert_eq!(peer(&tables, "10.244.0.5"), Peer::pod(blue), "the runtime of this node knows");
}

#[test]
fn a_pod_of_this_node_is_known_before_the_api_server_knows_its_address() {
    let red = Owner::Workspace("red".into()).identity();
    let mut pod = local("red", "10.244.0.30");
    assert_eq!(peer(&plan(&state(), &[pod.clone()]), "10.244.0.30"), Peer::pod(red));
    pod.ended = true;
    assert_eq!(peer(&plan(&state(), &[pod]), "10.244.0.30"), Peer::of(Range::Vacant));
}

#[test]
fn only_ports_of_system_pods_are_open() {
    let ports = |state: &DesiredState| -> Vec<_> {
        let open = plan(state, &[]).open_ports.into_iter();
        open.map(|open| (address::address(open.address), open.port, open.protocol)).collect()
    };
    assert_eq!(ports(&state()), [(Some(ip("10.244.0.2")), 443, 6)]);
    let mut contested = state();
    contested.pods.push(pod("red", "10.244.0.2"));
    assert_eq!(ports(&contested), []);
}

#[test]
fn identities_differ_and_are_the_same_everywhere() {
    let identity = |name: &str| Owner::Workspace(name.into()).identity();
    assert_ne!(identity("red"), identity("blue"));
    assert_eq!(identity("red"), 0xb1f5_1a51_1f1d_a0cd, "nodes of other versions must agree");
    assert!(identity("red") > SYSTEM);
    assert_eq!(Owner::System.identity(), SYSTEM);
}

#[test]
fn only_what_changed_is_written() {
    let old = BTreeMap::from([(1, "a"), (2, "b"), (3, "c")]);
    let new = BTreeMap::from([(1, "a"), (2, "B"), (4, "d")]);
    let difference = Difference::between(&old, &new);
    assert_eq!(difference, Difference { put: vec![(2, "B"), (4, "d")], remove: vec![3] });
    assert!(Difference::between(&new, &new).is_empty());
}

#[test]
fn one_pod_more_is_one_entry_more() {
    let before = plan(&state(), &[]);
    let mut state = state();
    state.pods.push(pod("red", "10.244.7.7"));
    let after = plan(&state, &[]);
    assert_eq!(Difference::between(&before.addresses, &after.addresses).len(), 1);
    assert!(Difference::between(&before.ranges, &after.ranges).is_empty());
}

/// What is granted, as `from>to address protocol/port`.
fn grants(state: &DesiredState) -> Vec<String> {
    let names: BTreeMap<u64, &str> =
        state.namespaces.iter().map(|(name, owner)| (owner.identity(), name.as_str())).collect();
    let grants = plan(state, &[]).grants;
    let text = |one: &Grant| {
        let address = address::address(one.address).unwrap();
        format!("{}>{} {address} {}/{}", names[&one.from], names[&one.to], one.protocol, one.port)
    };
    grants.iter().map(text).collect()
}

#[test]
fn workspaces_grant_what_is_theirs_to_workspaces() {
    let granted = |from: &str, port| Granted { from: from.into(), port };
    let mut state = state();
    state.pods[1].granted = vec![granted("red", Some((Protocol::Tcp, 80))), granted("red", None)];
    let mut found = grants(&state);
    found.sort();
    assert_eq!(found, ["red>blue 10.244.1.6 0/0", "red>blue 10.244.1.6 6/80"]);
    // Nothing of the cluster's own, nothing to it, nothing to who isn't known or is the same.
    state.pods[1].granted = ["kube-system", "nobody", "blue"].map(|from| granted(from, None)).into();
    state.pods[2].granted = vec![granted("red", None)];
    assert_eq!(grants(&state), [""; 0]);
    // An address that two claim.
    state.pods[1].granted = vec![granted("red", None)];
    assert_eq!(grants(&state).len(), 1);
    state.pods.push(pod("red", "10.244.1.6"));
    assert_eq!(grants(&state), [""; 0]);
}

#[test]
fn nobody_fills_the_table_of_grants_alone() {
    let mut state = state();
    let port = |port| Granted { from: "red".into(), port: Some((Protocol::Udp, port)) };
    state.pods[1].granted = (1..=5000).map(port).collect();
    state.pods[0].granted = vec![Granted { from: "blue".into(), port: None }];
    let found = grants(&state);
    assert_eq!(found.len(), MOST_GRANTS + 1);
    assert!(found.contains(&"blue>red 10.244.0.5 0/0".to_owned()));
}
