//! Which addresses a registry may lead us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, as far as reaching it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ordinary address of the Internet.
    Public,
    /// An address of a private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine.
    Loopback,
    /// Never a registry: unspecified, link-local, multicast, or a cloud's metadata service.
    Never,
}

/// Metadata services outside the link-local ranges: Azure's wire server, Oracle's, Alibaba's.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
];

/// Metadata services outside the link-local ranges: Amazon's, Google's.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Sorts an address. An IPv4 address inside an IPv6 one (mapped, or behind NAT64) counts as the IPv4 address.
pub(crate) fn kind(address: IpAddr) -> Kind {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                kind_v4(Ipv4Addr::new(a, b, c, d))
            }
            _ => kind_v6(address),
        },
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [first, second, ..] = address.octets();
    if address.is_loopback() {
        Kind::Loopback
    } else if first == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA_V4.contains(&address)
    {
        Kind::Never
    } else if address.is_private() || (first == 100 && (64..128).contains(&second)) {
        Kind::Private
    } else {
        Kind::Public
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    if address.is_loopback() {
        Kind::Loopback
    } else if address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || METADATA_V6.contains(&address)
    {
        Kind::Never
    } else if address.is_unique_local() {
        Kind::Private
    } else {
        Kind::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sorted_by_what_reaching_them_means() {
        let cases = [
            ("20.62.128.1", Kind::Public),
            ("2603:1030::1", Kind::Public),
            ("10.0.0.1", Kind::Private),
            ("172.16.3.4", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("100.64.0.1", Kind::Private),
            ("100.128.0.1", Kind::Public),
            ("fd12:3456::1", Kind::Private),
            ("127.0.0.1", Kind::Loopback),
            ("127.8.8.8", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("0.0.0.0", Kind::Never),
            ("0.1.2.3", Kind::Never),
            ("::", Kind::Never),
            ("169.254.169.254", Kind::Never),
            ("fe80::1", Kind::Never),
            ("224.0.0.1", Kind::Never),
            ("255.255.255.255", Kind::Never),
            ("ff02::1", Kind::Never),
            ("168.63.129.16", Kind::Never),
            ("100.100.100.200", Kind::Never),
            ("fd00:ec2::254", Kind::Never),
            ("::ffff:169.254.169.254", Kind::Never),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::ffff:10.0.0.1", Kind::Private),
            ("64:ff9b::a9fe:a9fe", Kind::Never),
            ("64:ff9b::808:808", Kind::Public),
        ];
        for (text, expected) in cases {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }
}
