//! What the kernel half and the user half share: the layout of the maps and the
//! numbers in them.
//!
//! The kernel half includes this file as it stands, so it uses `core` alone. A
//! change of a layout needs a new [`LAYOUT`]: the maps of the old one live on
//! in bpffs.

/// The folder below the bpffs root in which maps of this layout are pinned.
pub const LAYOUT: &str = "v1";

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`, in the packet's
/// order of bytes.
pub type Address = [u32; 4];

/// What an IPv4 address has before it. No packet may carry an IPv6 address that
/// begins with it.
pub const MAPPED: [u32; 3] = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff])];

/// A pod whose workspace isn't known yet: it talks to nobody.
pub const UNKNOWN: u64 = 0;
/// The cluster's own pods. Every other number is a workspace.
pub const SYSTEM: u64 = 1;

/// One pod, by slot: what its two programs go by, and behind it what only the
/// user half reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PodRecord {
    /// [`UNKNOWN`], [`SYSTEM`] or its workspace.
    pub identity: u64,
    /// Its IPv4 address; all zero without one.
    pub v4: Address,
    /// Its IPv6 address; all zero without one.
    pub v6: Address,
    /// Not 0 when the runtime removed it: what is counted is final.
    pub ended: u32,
    /// Keeps what follows at a multiple of eight.
    pub reserved: u32,
    /// `metadata.uid`.
    pub uid: [u8; 64],
    /// The runtime's id of the sandbox, as CNI gives it.
    pub sandbox: [u8; 64],
    /// The node's side of the pod's link.
    pub interface: [u8; 16],
    /// `metadata.namespace`.
    pub namespace: [u8; 64],
    /// `metadata.name`.
    pub name: [u8; 256],
}

/// What went one way in one class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// As on a wire: with the Ethernet header, and with the headers of every
    /// packet that a large one is cut into.
    pub bytes: u64,
    /// As on a wire.
    pub packets: u64,
}

/// The room for classes in [`Counters`]: a power of two, so that a mask keeps an
/// index within it.
pub const CLASSES: usize = 8;

/// What one processor counted for one pod, by [`Direction`] and [`Class`].
pub type Counters = [[Counter; CLASSES]; 2];

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the pod.
    Sent = 0,
    /// To the pod.
    Received = 1,
}

/// What a packet is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// With a pod of the same workspace.
    Workspace = 0,
    /// With the cluster's own pods, with peers, or by a service's address.
    Cluster = 1,
    /// With the rest of the world.
    Internet = 2,
    /// With nodes: kubelet's probes, and the link's own ARP and NDP.
    Node = 3,
    /// Refused.
    Dropped = 4,
}

/// A port that tenants may reach.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenPort {
    /// The pod's.
    pub address: Address,
    /// Its number.
    pub port: u16,
    /// IP's number of the protocol: TCP is 6, UDP is 17.
    pub protocol: u16,
}

/// That the pods of one workspace may reach a port of a pod of another one. Both are
/// named: an address that is given to somebody else opens nothing there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Who may reach it.
    pub from: u64,
    /// Whose it is.
    pub to: u64,
    /// The pod's.
    pub address: Address,
    /// Its number; 0 together with no protocol is all that there is.
    pub port: u16,
    /// IP's number of the protocol.
    pub protocol: u16,
    /// Keeps the whole at a multiple of eight.
    pub reserved: u32,
}

/// A datagram that a system pod, a node or a peer sent to a tenant's pod, which so
/// may answer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    /// The tenant's pod.
    pub tenant: Address,
    /// Who asked.
    pub asker: Address,
    /// The tenant's port.
    pub tenant_port: u16,
    /// The asker's port.
    pub asker_port: u16,
}
