//! An interface address: one of those under which a network namespace can be reached. Flows are
//! told to be this host's by them.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use procflow_binding::{Address, NamespaceId};

use crate::ProbeError;

/// The interface addresses of the network namespace that the calling thread is in.
///
/// Asked anew at each look, for about 40 us (two small netlink dumps). A subscription to address
/// changes would be cheaper and exact, but its socket would have to stay open inside.
pub(crate) fn addresses(namespace: NamespaceId) -> Result<Vec<Address>, ProbeError> {
    let interfaces = getifaddrs().map_err(ProbeError::call("getifaddrs"))?;
    Ok(interfaces
        .filter_map(|interface| {
            let address = ip(interface.address.as_ref()?)?;
            let mask = interface.netmask.as_ref().and_then(ip);
            Some(Address {
                namespace,
                address: address.to_canonical(),
                prefix: prefix(address, mask),
            })
        })
        .collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// The length of a netmask; that of a host address where there is none.
fn prefix(address: IpAddr, mask: Option<IpAddr>) -> u8 {
    let bits = match mask {
        Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
        None if address.is_ipv4() => 32,
        None => 128,
    };
    u8::try_from(bits).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_netmask_is_a_prefix_length() {
        let v4 = Ipv4Addr::new(10, 1, 2, 3).into();
        assert_eq!(prefix(v4, Some(Ipv4Addr::new(255, 255, 240, 0).into())), 20);
        assert_eq!(prefix(v4, Some(Ipv4Addr::UNSPECIFIED.into())), 0);
        assert_eq!(prefix(v4, None), 32);
        let v6 = Ipv6Addr::LOCALHOST.into();
        assert_eq!(prefix(v6, Some(Ipv6Addr::from(u128::MAX << 64).into())), 64);
        assert_eq!(prefix(v6, None), 128);
    }
}
