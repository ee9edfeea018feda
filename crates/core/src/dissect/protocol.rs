//! An application protocol is what the octets of a flow are written in: HTTP, TLS, DNS. A number with a name;
//! there are those that are recognised here, and each has one name everywhere: nDPI's, because labels that
//! people have depend on it.

use std::fmt;

use serde::{Serialize, Serializer};

/// An application protocol that is recognised here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationProtocol(u8);

macro_rules! protocols {
    ($($constant:ident $name:literal)*) => {
        /// Their numbers, which only order them.
        #[repr(u8)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Number { $($constant,)* }

        impl ApplicationProtocol {
            $(#[doc = concat!("`", $name, "`.")]
            pub const $constant: Self = Self(Number::$constant as u8);)*

            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$constant,)*];
        }

        static NAMES: &[&str] = &[$($name,)*];
    };
}

protocols! {
    DNS "DNS"
    MDNS "MDNS"
    LLMNR "LLMNR"
    HTTP "HTTP"
    WEBSOCKET "WebSocket"
    TLS "TLS"
    DTLS "DTLS"
    QUIC "QUIC"
    SSH "SSH"
    AJP "AJP"
    AMONG_US "AmongUs"
    AMQP "AMQP"
    AVAST_SECURE_DNS "AVASTSecureDNS"
    BACNET "BACnet"
    BGP "BGP"
    BITTORRENT "BitTorrent"
    CASSANDRA "Cassandra"
    CHECKMK "CHECKMK"
    COAP "COAP"
    CPHA "CPHA"
    DHCP "DHCP"
    DHCPV6 "DHCPV6"
    DIAMETER "Diameter"
    DNP3 "DNP3"
    DNSCRYPT "DNScrypt"
    DRDA "DRDA"
    DROPBOX "Dropbox"
    EAQ "EAQ"
    FTP_CONTROL "FTP_CONTROL"
    GENSHIN_IMPACT "GenshinImpact"
    GIT "Git"
    GTP_U "GTP_U"
    HSRP "HSRP"
    IEC60870 "IEC60870"
    IMAP "IMAP"
    IPSEC "IPSec"
    IRC "IRC"
    JABBER "Jabber"
    KERBEROS "Kerberos"
    L2TP "L2TP"
    LDAP "LDAP"
    MEMCACHED "Memcached"
    MINING "Mining"
    MODBUS "Modbus"
    MONGODB "MongoDB"
    MPEG_TS "MPEG_TS"
    MQTT "MQTT"
    MSSQL_TDS "MsSQL-TDS"
    MYSQL "MySQL"
    NATS "Nats"
    NETBIOS "NetBIOS"
    NETFLOW "NetFlow"
    NTP "NTP"
    OPENVPN "OpenVPN"
    OSCAR "Oscar"
    POP3 "POP3"
    POSTGRESQL "PostgreSQL"
    RADIUS "Radius"
    RDP "RDP"
    REDIS "Redis"
    RPC "RPC"
    RSYNC "RSYNC"
    RTCP "RTCP"
    RTMP "RTMP"
    RTP "RTP"
    RTSP "RTSP"
    RX "RX"
    S7COMM "s7comm"
    SFLOW "sFlow"
    SIP "SIP"
    SKYPE_TEAMS "Skype_Teams"
    SMBV1 "SMBv1"
    SMBV23 "SMBv23"
    SMPP "SMPP"
    SMTP "SMTP"
    SNMP "SNMP"
    SOCKS "SOCKS"
    SOURCE_ENGINE "Source_Engine"
    SPOTIFY "Spotify"
    SSDP "SSDP"
    STEAM "Steam"
    STUN "STUN"
    SYSLOG "Syslog"
    TAILSCALE "Tailscale"
    TEAMSPEAK "TeamSpeak"
    TEAMVIEWER "TeamViewer"
    TELEGRAM "Telegram"
    TELNET "Telnet"
    TEREDO "Teredo"
    TFTP "TFTP"
    UBNTAC2 "UBNTAC2"
    USENET "Usenet"
    VNC "VNC"
    VXLAN "VXLAN"
    WHATSAPP "WhatsApp"
    WIREGUARD "WireGuard"
    WSD "WSD"
    Z3950 "Z3950"
    ZABBIX "Zabbix"
    ZOOM "Zoom"
}

impl ApplicationProtocol {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(super) const fn place(self) -> usize {
        self.0 as usize
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|protocol| protocol.name() == name)
    }
}

impl fmt::Debug for ApplicationProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ApplicationProtocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
