//! The two programs on the node's side of every pod's link: one for what the
//! pod sends, one for what it receives. Each reads the headers, asks the policy,
//! counts, and drops or lets pass.
//!
//! What can't be read is dropped. Which pod a program serves is written into it
//! when it is loaded ([`SLOT`]): interface indices are used again and would
//! mistake one pod for another.
#![no_std]
#![no_main]

#[path = "../../network/src/kernel.rs"]
#[allow(dead_code)]
mod kernel;
mod packet;
#[path = "../../network/src/policy.rs"]
mod policy;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuHashMap};
use aya_ebpf::programs::TcContext;

use crate::kernel::{Address, Class, Counters, Direction, Flow, Grant, OpenPort, PodRecord};
use crate::packet::{Packet, Read};
use crate::policy::{Peer, Range, Rule, Transport};

/// The pod's slot; 0 is nobody's.
#[unsafe(no_mangle)]
static SLOT: Global<u32> = Global::new(0);

/// Pods of this node, by slot.
#[map(name = "pods")]
static PODS: HashMap<u32, PodRecord> = HashMap::pinned(8192, BPF_F_NO_PREALLOC);
/// What was counted, by slot.
#[map(name = "counters")]
static COUNTERS: PerCpuHashMap<u32, Counters> = PerCpuHashMap::pinned(8192, BPF_F_NO_PREALLOC);
/// Identities of all pods of the cluster, by address.
#[map(name = "addresses")]
static ADDRESSES: HashMap<Address, u64> = HashMap::pinned(262_144, BPF_F_NO_PREALLOC);
/// What all other addresses are; the longest prefix counts.
#[map(name = "ranges")]
static RANGES: LpmTrie<Address, u32> = LpmTrie::pinned(32768, 0);
/// Ports of system pods that tenants may reach.
#[map(name = "open_ports")]
static OPEN_PORTS: HashMap<OpenPort, u8> = HashMap::pinned(16384, BPF_F_NO_PREALLOC);
/// What workspaces let each other reach.
#[map(name = "grants")]
static GRANTS: HashMap<Grant, u8> = HashMap::pinned(65536, BPF_F_NO_PREALLOC);
/// When a tenant's pod was last asked by a datagram, in nanoseconds.
#[map(name = "flows")]
static FLOWS: LruHashMap<Flow, u64> = LruHashMap::pinned(16384, 0);
/// Identities by namespace: the CNI plugin's, for pods that are new.
#[map(name = "namespaces")]
static NAMESPACES: HashMap<[u8; 64], u64> = HashMap::pinned(65536, BPF_F_NO_PREALLOC);
/// Which life of the counters this is.
#[map(name = "epoch")]
static EPOCH: Array<[u8; 16]> = Array::pinned(1, 0);

/// How long a datagram may be answered after it was sent.
const ANSWER_NANOSECONDS: u64 = 120_000_000_000;
/// How old an entry may be before it is written again.
const REFRESH_NANOSECONDS: u64 = 5_000_000_000;

/// The next program of the link decides, if there is one.
const PASS: i32 = -1;
/// TC_ACT_SHOT.
const DROP: i32 = 2;

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    handle(&ctx, Direction::Sent)
}

#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    handle(&ctx, Direction::Received)
}

#[inline(always)]
fn handle(ctx: &TcContext, direction: Direction) -> i32 {
    let slot = SLOT.load();
    let Some(pod) = PODS.get_ptr(slot) else { return DROP };
    // SAFETY: the record stays readable until the program returns (RCU), and
    // user space replaces it as a whole.
    let pod = unsafe { &*pod };
    let (class, bytes, packets) = match packet::read(ctx) {
        Read::Packet(packet) => {
            let class = judge(ctx, pod, &packet, direction);
            let (bytes, packets) = packet.on_the_wire(ctx);
            (class, bytes, packets)
        }
        Read::Link => (Class::Node, u64::from(ctx.len()), 1),
        Read::Unreadable => (Class::Dropped, u64::from(ctx.len()), 1),
    };
    count(slot, direction, class, bytes, packets);
    if matches!(class, Class::Dropped) { DROP } else { PASS }
}

#[inline(always)]
fn judge(ctx: &TcContext, pod: &PodRecord, packet: &Packet, direction: Direction) -> Class {
    let other = peer(match direction {
        Direction::Sent => &packet.destination,
        Direction::Received => &packet.source,
    });
    let rule = match direction {
        Direction::Sent => {
            let own = packet.source == pod.v4 || packet.source == pod.v6;
            if packet.neighbour {
                return if (own || packet::is_link_local(&packet.source) || packet.source == [0; 4])
                    && (packet::is_on_link(&packet.destination)
                        || matches!(other.range, Range::Node))
                {
                    Class::Node
                } else {
                    Class::Dropped
                };
            }
            // Nobody sends from another's address. Options could choose another
            // way than the one that was judged.
            if !own || packet.options {
                return Class::Dropped;
            }
            policy::from_pod(pod.identity, other)
        }
        Direction::Received => {
            if packet.neighbour {
                return Class::Node;
            }
            policy::to_pod(pod.identity, other)
        }
    };
    match rule {
        Rule::Drop => Class::Dropped,
        Rule::Pass(class) => class,
        Rule::Ask(class) => {
            if packet.protocol == policy::UDP
                && let Some(transport) = packet.transport(ctx)
            {
                remember(packet, &transport);
            }
            class
        }
        // A fragment shows no ports or could be put together otherwise.
        Rule::Limited(class) => match packet.transport(ctx) {
            Some(transport) if policy::is_answer(&transport) || may_open(packet, &transport) => class,
            _ => Class::Dropped,
        },
        Rule::Granted(class) => {
            let (from, to) = match direction {
                Direction::Sent => (pod.identity, other.identity),
                Direction::Received => (other.identity, pod.identity),
            };
            match packet.transport(ctx) {
                Some(transport) if is_granted(packet, &transport, from, to) => class,
                _ => Class::Dropped,
            }
        }
    }
}

/// Whether one workspace's packet goes where another lets it, or answers what came from
/// there. It is asked of every packet: what is taken back ends at once.
#[inline(always)]
fn is_granted(packet: &Packet, transport: &Transport, from: u64, to: u64) -> bool {
    let Transport { protocol, source_port, destination_port, .. } = *transport;
    if has_grant(policy::grants(from, to, packet.destination, destination_port, protocol)) {
        if protocol == policy::UDP {
            remember(packet, transport);
        }
        return true;
    }
    (policy::is_answer(transport) || (protocol == policy::UDP && was_asked(packet, transport)))
        && has_grant(policy::grants(to, from, packet.source, source_port, protocol))
}

#[inline(always)]
fn has_grant(grants: [Grant; 2]) -> bool {
    let [one, all] = grants;
    GRANTS.get_ptr(one).is_some() || GRANTS.get_ptr(all).is_some()
}

#[inline(always)]
fn peer(address: &Address) -> Peer {
    // SAFETY: identities are single words, replaced as a whole.
    if let Some(identity) = unsafe { ADDRESSES.get(address) } {
        return Peer::pod(*identity);
    }
    match RANGES.get(Key::new(128, *address)) {
        Some(number) => Peer::of(Range::from_number(*number)),
        None => Peer::of(Range::Internet),
    }
}

/// Writes down that a tenant's pod was asked by a datagram.
#[inline(always)]
fn remember(packet: &Packet, transport: &Transport) {
    let flow = Flow {
        tenant: packet.destination,
        asker: packet.source,
        tenant_port: transport.destination_port,
        asker_port: transport.source_port,
    };
    // SAFETY: a pure helper.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: times are single words. An entry that is used for another flow
    // meanwhile makes this one be written again.
    let last = unsafe { FLOWS.get(flow) };
    if !last.is_some_and(|last| now.wrapping_sub(*last) < REFRESH_NANOSECONDS) {
        // When there is no room the answer is dropped.
        let _ = FLOWS.insert(flow, now, 0);
    }
}

/// Whether a tenant's packet goes to an open port, or answers a datagram.
#[inline(always)]
fn may_open(packet: &Packet, transport: &Transport) -> bool {
    let port = OpenPort {
        address: packet.destination,
        port: transport.destination_port,
        protocol: transport.protocol as u16,
    };
    if OPEN_PORTS.get_ptr(port).is_some() {
        return true;
    }
    transport.protocol == policy::UDP && was_asked(packet, transport)
}

/// Whether a tenant's datagram answers one.
#[inline(always)]
fn was_asked(packet: &Packet, transport: &Transport) -> bool {
    let flow = Flow {
        tenant: packet.source,
        asker: packet.destination,
        tenant_port: transport.source_port,
        asker_port: transport.destination_port,
    };
    // SAFETY: as in `remember`.
    let (asked, now) = unsafe { (FLOWS.get(flow), bpf_ktime_get_ns()) };
    asked.is_some_and(|asked| now.wrapping_sub(*asked) < ANSWER_NANOSECONDS)
}

#[inline(always)]
fn count(slot: u32, direction: Direction, class: Class, bytes: u64, packets: u64) {
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else { return };
    let index = direction as usize * kernel::CLASSES + (class as usize & (kernel::CLASSES - 1));
    // SAFETY: the index is below two times CLASSES, and no other program of this
    // direction runs on this processor at the same time.
    unsafe {
        let counter = counters.cast::<kernel::Counter>().add(index);
        (*counter).bytes += bytes;
        (*counter).packets += packets;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
