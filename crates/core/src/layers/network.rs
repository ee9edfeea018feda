//! The layers of IP: its headers, and those that extend them.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};
use serde::Serialize;

use super::options::Ipv4Options;
use crate::key::Protocol;
use crate::packet::{Undecoded, bytes};

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ipv4<'a> {
    /// DSCP and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Total Length as in the header; 0 where segmentation was left to the hardware.
    pub total_length: u16,
    /// How long the packet is, in octets: Total Length, or what is left of the frame where that is 0.
    pub octets: u32,
    /// Which packet its fragments are of.
    pub identification: u16,
    /// Whether no router may make fragments of it.
    pub dont_fragment: bool,
    /// Whether another fragment follows.
    pub more_fragments: bool,
    /// Where in the whole packet this fragment belongs, in octets.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub protocol: Protocol,
    /// The checksum, which is not verified.
    pub checksum: u16,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Who it is for.
    pub destination: Ipv4Addr,
    /// The options.
    pub options: Ipv4Options<'a>,
}

impl<'a> Ipv4<'a> {
    pub(super) fn read(header: &'a [u8], octets: u32) -> Result<Self, Undecoded> {
        let [_, traffic_class] = bytes(header, 0)?;
        let options = header.get(20..).unwrap_or_default();
        let header = Ipv4HeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            traffic_class,
            total_length: header.total_len(),
            octets,
            identification: header.identification(),
            dont_fragment: header.dont_fragment(),
            more_fragments: header.more_fragments(),
            fragment_offset: header.fragments_offset().value() * 8,
            ttl: header.ttl(),
            protocol: Protocol(header.protocol().0),
            checksum: header.header_checksum(),
            source: header.source_addr(),
            destination: header.destination_addr(),
            options: Ipv4Options(options),
        })
    }
}

/// IPv6 (RFC 8200).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ipv6 {
    /// DSCP and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// The flow label, of 20 bits (RFC 6437).
    pub flow_label: u32,
    /// Payload Length as in the header; 0 where it is said elsewhere.
    pub payload_length: u16,
    /// How long the packet is, with this header, in octets; what is left of the frame where the header does
    /// not say.
    pub octets: u32,
    /// What follows this header.
    pub next_header: Protocol,
    /// How many hops it may go.
    pub hop_limit: u8,
    /// Who sent it.
    pub source: Ipv6Addr,
    /// Who it is for.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    pub(super) fn read(header: &[u8], octets: u32) -> Result<Self, Undecoded> {
        let header = Ipv6HeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            traffic_class: header.traffic_class(),
            flow_label: header.flow_label().value(),
            payload_length: header.payload_length(),
            octets,
            next_header: Protocol(header.next_header().0),
            hop_limit: header.hop_limit(),
            source: header.source_addr(),
            destination: header.destination_addr(),
        })
    }
}

/// A header that extends IPv6's (RFC 8200 section 4); what it says is in its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// Its number: 0 hop-by-hop options, 43 routing, 60 destination options, 135 mobility (RFC 6275), 139
    /// host identity (RFC 7401), 140 shim6 (RFC 5533).
    pub header: Protocol,
    /// What follows it.
    pub next_header: Protocol,
}

impl Extension {
    pub(super) fn read(header: &[u8], number: u8) -> Result<Self, Undecoded> {
        let [next_header] = bytes(header, 0)?;
        Ok(Self { header: Protocol(number), next_header: Protocol(next_header) })
    }
}

/// The fragment header of IPv6 (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fragment {
    /// What follows it in the whole packet.
    pub next_header: Protocol,
    /// Which packet it is of.
    pub identification: u32,
    /// Where in the whole packet it belongs, in octets.
    pub offset: u16,
    /// Whether another one follows.
    pub more: bool,
}

impl Fragment {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let header =
            Ipv6FragmentHeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            next_header: Protocol(header.next_header().0),
            identification: header.identification(),
            offset: header.fragment_offset().value() * 8,
            more: header.more_fragments(),
        })
    }
}

/// IPsec's authentication header (RFC 4302).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Authentication {
    /// What follows it.
    pub next_header: Protocol,
    /// The security parameters index.
    pub security_parameters: u32,
    /// The sequence number.
    pub sequence: u32,
}

impl Authentication {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let header = IpAuthHeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            next_header: Protocol(header.next_header().0),
            security_parameters: header.spi(),
            sequence: header.sequence_number(),
        })
    }
}
