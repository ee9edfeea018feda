//! A flow is the decoded view of one flow record: who talked to whom, when, and how much.
//!
//! It is what is needed to say which process made the flow, and no more; everything else in the
//! record stays bytes and is carried through as it was found.

use std::net::IpAddr;

/// One flow, borrowed from the block it stands in.
///
/// Times are unix milliseconds, as the exporter set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow<'a> {
    /// First packet.
    pub first_ms: u64,
    /// Last packet.
    pub last_ms: u64,
    /// When the collector received the record, if the file says.
    pub received_ms: Option<u64>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port; for ICMP, type * 256 + code.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// All TCP flags seen.
    pub tcp_flags: u8,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// The addresses were replaced by an anonymiser.
    pub anonymised: bool,
    /// The sysid of the exporter record this flow belongs to.
    pub exporter: u16,
    /// The user name up to its NUL (nfdump's `%uname`); `None` when absent or empty.
    pub user_name: Option<&'a [u8]>,
}

/// The bytes of a name field up to its NUL, or all of it; `None` when that leaves nothing.
pub(crate) fn name_in(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    if end == 0 { None } else { Some(&field[..end]) }
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn a_name_ends_at_its_nul_or_with_its_field() {
        assert_eq!(name_in(b"nginx\0\0\0"), Some(&b"nginx"[..]));
        assert_eq!(name_in(b"nginx"), Some(&b"nginx"[..]));
        assert_eq!(name_in(b"\0nginx"), None);
        assert_eq!(name_in(b""), None);
    }
}
