//! Recognisers of streams: what is spoken over TCP, by the first octets of either end. A capture may begin in
//! the middle of a connection, and then so does what is looked at.

mod brokers;
mod chat;
mod databases;
mod directory;
mod industrial;
mod infrastructure;
mod mail;
mod media;
mod octets;
mod peers;
mod remote;
mod stores;
mod websocket;
mod windows;

use super::{ApplicationProtocol, Look, Recogniser, Said};
use crate::dissect::{dns, http, ssh, tls};

/// In the order in which they are asked.
pub(super) const ALL: &[Recogniser] = &[
    tls::recognise,
    http::recognise,
    ssh::recognise,
    dns::recognise_stream,
    windows::netbios,
    windows::dce_rpc,
    mail::smtp,
    mail::imap,
    mail::pop3,
    mail::ftp,
    mail::nntp,
    databases::mysql,
    databases::postgresql,
    databases::tds,
    databases::drda,
    stores::mongodb,
    stores::redis,
    stores::cassandra,
    stores::memcached,
    directory::kerberos,
    directory::ldap,
    brokers::amqp,
    brokers::mqtt,
    brokers::nats,
    brokers::ajp,
    remote::rdp,
    remote::vnc,
    remote::openvpn,
    remote::socks,
    remote::telnet,
    media::sip,
    media::rtsp,
    media::rtmp,
    media::spotify,
    peers::bittorrent,
    peers::mining,
    chat::irc,
    chat::xmpp,
    chat::oscar,
    chat::whatsapp,
    infrastructure::bgp,
    infrastructure::diameter,
    infrastructure::smpp,
    infrastructure::zabbix,
    infrastructure::checkmk,
    infrastructure::z3950,
    infrastructure::git,
    infrastructure::rsync,
    industrial::dnp3,
    industrial::iec104,
    industrial::modbus,
    industrial::s7comm,
    remote::teamviewer,
    websocket::websocket,
];
