//! Reads what the policy needs of a packet, and how much it is on a wire.

use aya_ebpf::programs::TcContext;

use crate::kernel::{Address, MAPPED};
use crate::policy::{ICMP, ICMPV6, TCP, Transport, UDP};

const ETHERNET: usize = 14;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;

/// IPv6's header of a fragment.
const FRAGMENT: u8 = 44;
/// Neighbour solicitation and advertisement.
const NEIGHBOUR: [u8; 2] = [135, 136];

/// What kind of packet it is.
pub enum Read {
    /// IP.
    Packet(Packet),
    /// ARP: it never leaves the link.
    Link,
    /// Nothing that a pod should send or get.
    Unreadable,
}

/// An IP packet.
pub struct Packet {
    /// From where.
    pub source: Address,
    /// Whither.
    pub destination: Address,
    /// IP's number of the protocol.
    pub protocol: u8,
    /// Whether it is a part of a packet.
    pub fragment: bool,
    /// Whether its header has options that could send it elsewhere.
    pub options: bool,
    /// Whether it is NDP, which no router passes on.
    pub neighbour: bool,
    /// Where its transport header begins.
    offset: usize,
}

/// Reads the link's and IP's headers.
#[inline(always)]
pub fn read(ctx: &TcContext) -> Read {
    // SAFETY: the kernel gives a valid context; its fields are checked loads.
    let (protocol, tagged) = unsafe { ((*ctx.skb.skb).protocol, (*ctx.skb.skb).vlan_present) };
    if tagged != 0 {
        return Read::Unreadable;
    }
    match u32::from(u16::from_be(protocol as u16)) {
        IPV4 => read_v4(ctx),
        IPV6 => read_v6(ctx),
        ARP => Read::Link,
        _ => Read::Unreadable,
    }
}

#[repr(C)]
struct V4 {
    version: u8,
    service: u8,
    length: u16,
    id: u16,
    fragment: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

#[inline(always)]
fn read_v4(ctx: &TcContext) -> Read {
    let Ok(header) = ctx.load::<V4>(ETHERNET) else { return Read::Unreadable };
    let words = header.version & 0x0f;
    if header.version >> 4 != 4 || words < 5 {
        return Read::Unreadable;
    }
    Read::Packet(Packet {
        source: [MAPPED[0], MAPPED[1], MAPPED[2], header.source],
        destination: [MAPPED[0], MAPPED[1], MAPPED[2], header.destination],
        protocol: header.protocol,
        // More fragments follow, or it isn't the first.
        fragment: u16::from_be(header.fragment) & 0x3fff != 0,
        options: words != 5,
        neighbour: false,
        offset: ETHERNET + words as usize * 4,
    })
}

#[repr(C)]
struct V6 {
    version: u8,
    class: [u8; 3],
    length: u16,
    next: u8,
    hop_limit: u8,
    source: Address,
    destination: Address,
}

#[inline(always)]
fn read_v6(ctx: &TcContext) -> Read {
    let Ok(header) = ctx.load::<V6>(ETHERNET) else { return Read::Unreadable };
    // An IPv4 address in IPv6's clothes would be taken for the IPv4 address.
    if header.version >> 4 != 6 || is_mapped(&header.source) || is_mapped(&header.destination) {
        return Read::Unreadable;
    }
    let offset = ETHERNET + size_of::<V6>();
    // NDP with any other hop limit was routed, and is none.
    let neighbour = header.next == ICMPV6
        && header.hop_limit == 255
        && ctx.load::<u8>(offset).is_ok_and(|kind| kind == NEIGHBOUR[0] || kind == NEIGHBOUR[1]);
    Read::Packet(Packet {
        source: header.source,
        destination: header.destination,
        protocol: header.next,
        fragment: header.next == FRAGMENT,
        // Hop-by-hop, routing, destination, mobility, HIP, shim6.
        options: matches!(header.next, 0 | 43 | 60 | 135 | 139 | 140),
        neighbour,
        offset,
    })
}

#[inline(always)]
fn is_mapped(address: &Address) -> bool {
    address[0] == MAPPED[0] && address[1] == MAPPED[1] && address[2] == MAPPED[2]
}

/// Whether it is in fe80::/10.
#[inline(always)]
pub fn is_link_local(address: &Address) -> bool {
    u32::from_be(address[0]) & 0xffc0_0000 == 0xfe80_0000
}

/// Whether no router passes on what goes to it: fe80::/10 and ff02::/16.
#[inline(always)]
pub fn is_on_link(address: &Address) -> bool {
    is_link_local(address) || u32::from_be(address[0]) & 0xffff_0000 == 0xff02_0000
}

impl Packet {
    /// Its ports and flags, or the type of the ICMP message; nothing of
    /// fragments, of other protocols and of what is too short.
    #[inline(always)]
    pub fn transport(&self, ctx: &TcContext) -> Option<Transport> {
        if self.fragment || self.options {
            return None;
        }
        let protocol = self.protocol;
        if protocol == TCP || protocol == UDP {
            let ports = ctx.load::<[u16; 2]>(self.offset).ok()?;
            let flags = if protocol == TCP { ctx.load::<u8>(self.offset + 13).ok()? } else { 0 };
            return Some(Transport {
                protocol,
                flags,
                source_port: u16::from_be(ports[0]),
                destination_port: u16::from_be(ports[1]),
            });
        }
        if protocol == ICMP || protocol == ICMPV6 {
            let flags = ctx.load::<u8>(self.offset).ok()?;
            return Some(Transport { protocol, flags, source_port: 0, destination_port: 0 });
        }
        None
    }

    /// Bytes and packets on a wire. What the kernel will cut into many has its
    /// headers once, and each of the many has them.
    #[inline(always)]
    pub fn on_the_wire(&self, ctx: &TcContext) -> (u64, u64) {
        let length = u64::from(ctx.len());
        // SAFETY: as in `read`.
        let (size, segments) = unsafe { ((*ctx.skb.skb).gso_size, (*ctx.skb.skb).gso_segs) };
        if size == 0 {
            return (length, 1);
        }
        let transport = match self.protocol {
            TCP => match ctx.load::<u8>(self.offset + 12) {
                Ok(words) => u64::from(words >> 4) * 4,
                Err(_) => return (length, 1),
            },
            UDP => 8,
            _ => return (length, 1),
        };
        let headers = self.offset as u64 + transport;
        // A sender of raw packets need not say how many: the kernel counts them
        // later.
        let segments = match u64::from(segments) {
            0 => length.saturating_sub(headers).div_ceil(u64::from(size)),
            known => known,
        };
        let segments = if segments == 0 { 1 } else { segments };
        (length + (segments - 1) * headers, segments)
    }
}
