//! Addresses as the kernel half compares them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::kernel::{Address, MAPPED};

/// An address as a key: IPv4 becomes `::ffff:a.b.c.d`.
pub fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => [MAPPED[0], MAPPED[1], MAPPED[2], u32::from_ne_bytes(v4.octets())],
        IpAddr::V6(v6) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(v6.octets().as_chunks::<4>().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            words
        }
    }
}

/// The address of a key; none for all zero, which stands for no address.
pub fn address(key: Address) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(key) {
        *chunk = word.to_ne_bytes();
    }
    let v6 = Ipv6Addr::from(bytes);
    match v6.to_ipv4_mapped() {
        Some(v4) => Some(IpAddr::V4(v4)),
        None if v6.is_unspecified() => None,
        None => Some(IpAddr::V6(v6)),
    }
}

/// A prefix as a key: its length in bits of the 128, and its first address.
pub fn prefix(net: IpNet) -> (u32, Address) {
    let length = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    (length, key(net.network()))
}

/// The prefix of one address alone.
pub fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The addresses of a node's range that are the node's own on its pods' links:
/// the range's first, which vxlan takes, and the second, which is the gateway
/// that `host-local` gives.
pub fn own_of_range(range: IpNet) -> [IpAddr; 2] {
    let first = range.network();
    let second = match first {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().saturating_add(1))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits().saturating_add(1))),
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_from_its_key() {
        for text in ["10.244.1.5", "fd00:1::5", "255.255.255.255", "0.0.0.0"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(key(ip)), Some(ip), "{text}");
        }
        assert_eq!(address([0; 4]), None);
    }

    #[test]
    fn a_key_has_the_packets_order_of_bytes() {
        let bytes: Vec<u8> =
            key("1.2.3.4".parse().unwrap()).iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4]);
    }

    #[test]
    fn a_prefix_counts_the_mapped_bits() {
        let (length, first) = prefix("10.244.7.9/16".parse().unwrap());
        assert_eq!((length, address(first)), (112, "10.244.0.0".parse().ok()));
        assert_eq!(prefix("fd00::/8".parse().unwrap()).0, 8);
    }

    #[test]
    fn a_ranges_own_addresses_are_its_first_two() {
        let own = own_of_range("10.244.3.0/24".parse().unwrap());
        assert_eq!(own.map(|ip| ip.to_string()), ["10.244.3.0", "10.244.3.1"]);
        let own = own_of_range("fd00:0:0:3::/64".parse().unwrap());
        assert_eq!(own.map(|ip| ip.to_string()), ["fd00:0:0:3::", "fd00:0:0:3::1"]);
    }
}
