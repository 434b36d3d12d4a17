use super::*;
use crate::kernel::Class::{Cluster, Internet, Node, Workspace};

const OWN: u64 = 7;
const OTHER: u64 = 8;

/// Every peer, once.
const PEERS: [Peer; 9] = [
    Peer::pod(UNKNOWN),
    Peer::pod(SYSTEM),
    Peer::pod(OWN),
    Peer::pod(OTHER),
    Peer::of(Range::Internet),
    Peer::of(Range::Vacant),
    Peer::of(Range::Service),
    Peer::of(Range::Node),
    Peer::of(Range::Reserved),
];

fn check(own: u64, rules: fn(u64, Peer) -> Rule, expected: [Rule; 9]) {
    for (peer, expected) in PEERS.into_iter().zip(expected) {
        assert_eq!(rules(own, peer), expected, "{peer:?}");
    }
}

#[test]
fn a_tenant_sends_to_its_own_and_to_the_world() {
    check(
        OWN,
        from_pod,
        [
            Rule::Drop,
            Rule::Limited(Cluster),
            Rule::Pass(Workspace),
            Rule::Granted(Cluster),
            Rule::Pass(Internet),
            Rule::Drop,
            Rule::Pass(Cluster),
            Rule::Limited(Node),
            Rule::Drop,
        ],
    );
}

#[test]
fn a_tenant_hears_its_own_the_system_and_the_world() {
    check(
        OWN,
        to_pod,
        [
            Rule::Drop,
            Rule::Ask(Cluster),
            Rule::Pass(Workspace),
            Rule::Granted(Cluster),
            Rule::Pass(Internet),
            Rule::Drop,
            Rule::Pass(Cluster),
            Rule::Ask(Node),
            Rule::Drop,
        ],
    );
}

#[test]
fn a_system_pod_hears_tenants_at_open_ports_only() {
    check(
        SYSTEM,
        to_pod,
        [
            Rule::Drop,
            Rule::Pass(Cluster),
            Rule::Limited(Cluster),
            Rule::Limited(Cluster),
            Rule::Pass(Internet),
            Rule::Drop,
            Rule::Pass(Cluster),
            Rule::Pass(Node),
            // The Kubernetes API's answers, by its service's address.
            Rule::Pass(Internet),
        ],
    );
}

#[test]
fn a_system_pod_sends_anywhere() {
    for peer in PEERS {
        assert!(matches!(from_pod(SYSTEM, peer), Rule::Pass(_) | Rule::Ask(_)), "{peer:?}");
    }
    assert_eq!(from_pod(SYSTEM, Peer::pod(OWN)), Rule::Ask(Cluster));
}

#[test]
fn an_unknown_pod_talks_to_nobody() {
    for peer in PEERS {
        assert_eq!(from_pod(UNKNOWN, peer), Rule::Drop, "{peer:?}");
        assert_eq!(to_pod(UNKNOWN, peer), Rule::Drop, "{peer:?}");
    }
}

#[test]
fn what_is_said_between_workspaces_takes_a_grant_at_both_ends() {
    for rules in [from_pod, to_pod] {
        assert_eq!(rules(OWN, Peer::pod(OTHER)), Rule::Granted(Cluster));
    }
}

#[test]
fn a_grant_names_both_workspaces_the_pod_and_the_port() {
    let [own, all] = grants(OWN, OTHER, [1, 2, 3, 4], 80, TCP);
    let wanted = Grant { from: OWN, to: OTHER, address: [1, 2, 3, 4], port: 80, protocol: 6, reserved: 0 };
    assert_eq!(own, wanted);
    assert_eq!(all, Grant { port: 0, protocol: 0, ..wanted });
    assert_eq!(size_of::<Grant>(), 40);
}

#[test]
fn a_number_that_is_not_understood_is_reserved() {
    for range in [Range::Internet, Range::Vacant, Range::Service, Range::Node, Range::Reserved] {
        assert_eq!(Range::from_number(range as u32), range);
    }
    assert_eq!(Range::from_number(99), Range::Reserved);
}

fn packet(protocol: u8, flags: u8) -> Transport {
    Transport { protocol, flags, source_port: 443, destination_port: 9153 }
}

#[test]
fn no_segment_that_could_open_a_connection_is_an_answer() {
    for flags in 0..=255 {
        let opens = flags & SYN != 0 && flags & ACK == 0;
        let continues = flags & (ACK | RST) != 0;
        assert_eq!(is_answer(&packet(TCP, flags)), continues && !opens, "{flags:#b}");
    }
    assert!(!is_answer(&packet(TCP, SYN | RST)));
    assert!(is_answer(&packet(TCP, SYN | ACK)));
}

#[test]
fn of_other_protocols_only_replies_to_an_echo_are_answers() {
    for kind in 0..=255 {
        assert_eq!(is_answer(&packet(ICMP, kind)), kind == 0, "{kind}");
        assert_eq!(is_answer(&packet(ICMPV6, kind)), kind == 129, "{kind}");
        assert!(!is_answer(&packet(UDP, kind)));
        assert!(!is_answer(&packet(47, kind)));
    }
}
