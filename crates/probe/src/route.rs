//! A route says through which interface packets leave. Here: the interface of the default route, for who
//! captures without saying where.

use std::io;

use ::procfs::ProcError;

/// The interface of the default route: of IPv4, otherwise of IPv6; the one of the least metric if there are
/// several.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub fn default_interface() -> io::Result<Option<String>> {
    let routes = ::procfs::net::route().map_err(|error| match error {
        ProcError::Io(error, _) => error,
        other => io::Error::other(other),
    })?;
    let v4 = routes
        .into_iter()
        .filter(|route| route.destination.is_unspecified() && route.mask.is_unspecified())
        .min_by_key(|route| route.metrics)
        .map(|route| route.iface);
    if v4.is_some() {
        return Ok(v4);
    }
    // A kernel without IPv6 has no such file.
    Ok(std::fs::read_to_string("/proc/net/ipv6_route").ok().and_then(|table| of_ipv6(&table)))
}

/// The same of /proc/net/ipv6_route: destination and its length, source and its length, next hop, metric,
/// two counters, flags, interface (net/ipv6/route.c, rt6_native_route_seq_show).
fn of_ipv6(table: &str) -> Option<String> {
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[destination, length, _, _, _, metric, _, _, _, interface] = &fields[..] else {
            return None;
        };
        let everything = length == "00" && destination.bytes().all(|digit| digit == b'0');
        let metric = u32::from_str_radix(metric, 16).ok()?;
        // The loopback interface has a route to everywhere that leads nowhere.
        (everything && interface != "lo").then(|| (metric, interface.to_owned()))
    };
    table.lines().filter_map(default).min().map(|(_, interface)| interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_of_least_metric_and_not_that_of_loopback() {
        let zero = "00000000000000000000000000000000";
        let line = |length, metric, interface| {
            format!("{zero} {length} {zero} 00 {zero} {metric} 1 0 3 {interface}\n")
        };
        let table = line("00", "ffffffff", "lo")
            + &line("00", "0400", "wlan0")
            + &line("00", "0064", "eth0");
        assert_eq!(of_ipv6(&table).as_deref(), Some("eth0"));
        assert_eq!(of_ipv6(&line("40", "0001", "eth0")), None);
        assert_eq!(of_ipv6("garbage"), None);
    }
}
