//! Who may talk to whom.
//!
//! The kernel half includes this file as it stands, so what is tested here is
//! what runs there. Each packet between two pods of this cluster is judged
//! twice: where it leaves its pod and where it enters the other. Both must
//! agree, so one node's stale table alone opens nothing.

use crate::kernel::{Address, Class, Grant, SYSTEM, UNKNOWN};

/// What the other end's address is. Both fields always hold something: of a
/// value that is set in one case only, the kernel's verifier can't see that it
/// isn't read in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What kind of address it is.
    pub range: Range,
    /// Of a pod, who it is; else [`UNKNOWN`].
    pub identity: u64,
}

impl Peer {
    /// A pod, by identity.
    #[inline(always)]
    pub const fn pod(identity: u64) -> Self {
        Self { range: Range::Pod, identity }
    }

    /// Something else.
    #[inline(always)]
    pub const fn of(range: Range) -> Self {
        Self { range, identity: UNKNOWN }
    }
}

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Range {
    /// The rest of the world.
    Internet = 0,
    /// Of the pods' range, but nobody's.
    Vacant = 1,
    /// A service's: which pod it means is decided on the way.
    Service = 2,
    /// A node's.
    Node = 3,
    /// Not for tenants: link-local (metadata), multicast, loopback, the
    /// Kubernetes API, and what the operator names.
    Reserved = 4,
    /// A pod's; never in the maps of ranges.
    Pod = 5,
}

impl Range {
    /// The range of that number in the maps. What isn't understood is reserved.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Internet,
            1 => Self::Vacant,
            2 => Self::Service,
            3 => Self::Node,
            _ => Self::Reserved,
        }
    }
}

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is refused.
    Drop,
    /// It passes.
    Pass(Class),
    /// It passes, and if it is a datagram, its answer may too.
    Ask(Class),
    /// It passes as an answer ([`is_answer`], or to a datagram that asked), or
    /// to an open port.
    Limited(Class),
    /// It passes if the receiver's workspace lets the sender's reach that port, or as an
    /// answer to what it lets.
    Granted(Class),
}

/// What becomes of a packet that a pod sends to `peer`.
#[inline(always)]
pub const fn from_pod(own: u64, peer: Peer) -> Rule {
    match (own, peer.range) {
        (UNKNOWN, _) => Rule::Drop,
        (SYSTEM, Range::Pod) if peer.identity == SYSTEM => Rule::Pass(Class::Cluster),
        (SYSTEM, Range::Pod) => Rule::Ask(Class::Cluster),
        (SYSTEM, Range::Internet | Range::Reserved) => Rule::Pass(Class::Internet),
        (SYSTEM, Range::Service | Range::Vacant) => Rule::Pass(Class::Cluster),
        (SYSTEM, Range::Node) => Rule::Pass(Class::Node),
        (_, Range::Pod) if peer.identity == own => Rule::Pass(Class::Workspace),
        (_, Range::Pod) if peer.identity == SYSTEM => Rule::Limited(Class::Cluster),
        (_, Range::Pod) if peer.identity == UNKNOWN => Rule::Drop,
        (_, Range::Pod) => Rule::Granted(Class::Cluster),
        (_, Range::Internet) => Rule::Pass(Class::Internet),
        // Which pod it reaches is not known yet: that pod's program decides, and
        // it sees the sender's own address.
        (_, Range::Service) => Rule::Pass(Class::Cluster),
        // Kubelet's probes are answered, and nothing else is said to a node.
        (_, Range::Node) => Rule::Limited(Class::Node),
        (_, Range::Vacant | Range::Reserved) => Rule::Drop,
    }
}

/// What becomes of a packet that `peer` sends to a pod.
#[inline(always)]
pub const fn to_pod(own: u64, peer: Peer) -> Rule {
    match (own, peer.range) {
        (UNKNOWN, _) => Rule::Drop,
        (_, Range::Pod) if peer.identity == UNKNOWN => Rule::Drop,
        (SYSTEM, Range::Pod) if peer.identity == SYSTEM => Rule::Pass(Class::Cluster),
        (SYSTEM, Range::Pod) => Rule::Limited(Class::Cluster),
        (_, Range::Pod) if peer.identity == SYSTEM => Rule::Ask(Class::Cluster),
        (_, Range::Pod) if peer.identity == own => Rule::Pass(Class::Workspace),
        (_, Range::Pod) => Rule::Granted(Class::Cluster),
        (_, Range::Internet) => Rule::Pass(Class::Internet),
        // A service's address is a source only where the node put it back into
        // an answer: pods can't send from it.
        (_, Range::Service) => Rule::Pass(Class::Cluster),
        (SYSTEM, Range::Node) => Rule::Pass(Class::Node),
        (_, Range::Node) => Rule::Ask(Class::Node),
        // Answers of what it may ask, such as the Kubernetes API by its service's
        // address; no pod can send under it.
        (SYSTEM, Range::Reserved) => Rule::Pass(Class::Internet),
        (_, Range::Vacant | Range::Reserved) => Rule::Drop,
    }
}

/// The grants by which a packet from one workspace's pod to another's may pass: its own
/// port's, and the one for all that there is.
#[inline(always)]
pub const fn grants(from: u64, to: u64, address: Address, port: u16, protocol: u8) -> [Grant; 2] {
    let one = Grant { from, to, address, port, protocol: protocol as u16, reserved: 0 };
    [one, Grant { port: 0, protocol: 0, ..one }]
}

/// What is read of a packet's transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IP's number of the protocol.
    pub protocol: u8,
    /// TCP's flags, or the type of an ICMP message.
    pub flags: u8,
    /// Where it came from; 0 where there are no ports.
    pub source_port: u16,
    /// Where it goes; 0 where there are no ports.
    pub destination_port: u16,
}

/// IP's numbers of the protocols.
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const ECHO_REPLY: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

/// Whether a packet can only continue what its receiver began, whatever its
/// ports are.
///
/// No state is needed for TCP: a connection can only be opened by a SYN without
/// ACK. Whatever else reaches a closed or a listening port is answered by RST,
/// and as senders can't take another's address, it meets no connection but the
/// sender's own. A UDP packet is never an answer by itself.
#[inline(always)]
pub const fn is_answer(transport: &Transport) -> bool {
    match transport.protocol {
        TCP => {
            let opens = transport.flags & (SYN | ACK) == SYN;
            !opens && transport.flags & (ACK | RST) != 0
        }
        ICMP => transport.flags == ECHO_REPLY,
        ICMPV6 => transport.flags == ECHO_REPLY_V6,
        _ => false,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
