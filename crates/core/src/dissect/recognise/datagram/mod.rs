//! Recognisers of datagrams: what is spoken over UDP, by one of them or by two that follow one another.

mod calls;
mod directories;
mod discovery;
mod dtls;
mod games;
mod hosts;
mod names;
mod octets;
mod services;
mod stun;
mod telemetry;
mod torrents;
mod tunnels;
mod vpn;

use super::{ApplicationProtocol, Look, Recogniser, Said};
use crate::dissect::{dns, quic};

pub(super) use hosts::netbios_service;
pub(super) use stun::stun_service;

/// In the order in which they are asked. What DNSCrypt asks first is well-formed DNS, so it stands in front.
pub(super) const ALL: &[Recogniser] = &[
    names::avast_secure_dns,
    names::dnscrypt,
    dns::recognise,
    quic::recognise,
    stun::stun,
    dtls::dtls,
    calls::sip,
    calls::rtp,
    calls::rtcp,
    calls::zoom,
    calls::telegram,
    calls::teamspeak,
    games::steam,
    games::source_engine,
    games::genshin_impact,
    games::among_us,
    discovery::ssdp,
    discovery::wsd,
    discovery::ubntac2,
    discovery::dropbox,
    discovery::spotify,
    discovery::bacnet,
    discovery::cpha,
    discovery::hsrp,
    torrents::bittorrent,
    vpn::openvpn,
    vpn::wireguard,
    vpn::tailscale,
    vpn::ipsec,
    tunnels::l2tp,
    tunnels::teredo,
    tunnels::vxlan,
    tunnels::gtp_u,
    telemetry::netflow,
    telemetry::sflow,
    telemetry::syslog,
    telemetry::eaq,
    hosts::dhcp,
    hosts::dhcpv6,
    hosts::ntp,
    hosts::netbios,
    hosts::tftp,
    directories::kerberos,
    directories::ldap,
    directories::snmp,
    directories::radius,
    services::rx,
    services::dce_rpc,
    services::memcached,
    services::coap,
    services::mpeg_ts,
    calls::skype,
];
