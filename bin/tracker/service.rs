//! The service: QUIC endpoints, and a task for every updater that feeds and drains its machine.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procflow_binding::BootTime;
use procflow_wire::{PublicKey, Session, Supply, TlsIdentity};
use quinn::congestion;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;

use crate::archive::Archive;
use crate::args::Congestion;
use crate::failure::Failure;
use crate::trust::Trust;
use crate::watch::SharedLog;

/// Handshakes of one source at a time; an updater needs one. All users of this host are one source.
const MOST_PER_SOURCE: usize = 16;

/// Handshakes at a time. Each costs one signature and a few kilobytes. Who has shown an authorised
/// key does not count any more, so that strangers cannot shut updaters out for longer than a
/// handshake lasts.
const MOST_HANDSHAKES: usize = 512;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How long an updater may be silent. It answers keep-alives as long as it is there.
const IDLE: Duration = Duration::from_secs(30);

/// How soon an updater whose key was removed is hung up on.
const RECHECK: Duration = Duration::from_secs(5);

/// Why a connection is closed, as the updater sees it.
mod code {
    pub(super) const STOPPING: u32 = 0;
    pub(super) const PROTOCOL: u32 = 1;
    pub(super) const NOT_LOCAL: u32 = 2;
}

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// This host alone: nobody is authorised yet.
    Loopback,
    /// Everybody who holds an authorised key.
    All,
}

/// The service, with what it counted.
pub(crate) struct Service {
    pub(crate) log: Arc<SharedLog>,
    archive: Arc<Archive>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) host_name: String,
    server: quinn::ServerConfig,
    handshakes: Semaphore,
    per_source: Mutex<HashMap<IpAddr, usize>>,
    served: AtomicU64,
    turned_away: AtomicU64,
    quiet: bool,
}

impl Service {
    pub(crate) fn new(
        log: Arc<SharedLog>,
        archive: Archive,
        trust: Arc<Trust>,
        host_name: String,
        congestion: Congestion,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let tls = TlsIdentity::new(&trust.own)?.server(Arc::clone(&trust) as _)?;
        let tls = QuicServerConfig::try_from(tls).map_err(|_| Failure::Cipher)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(4))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .receive_window(VarInt::from_u32(64 << 10))
            .stream_receive_window(VarInt::from_u32(16 << 10))
            .send_window(1 << 20)
            .keep_alive_interval(Some(IDLE / 3))
            .max_idle_timeout(IDLE.try_into().ok())
            .congestion_controller_factory(match congestion {
                Congestion::Cubic => Arc::new(congestion::CubicConfig::default()),
                Congestion::Bbr => Arc::new(congestion::BbrConfig::default()),
                Congestion::NewReno => Arc::new(congestion::NewRenoConfig::default()),
            });
        server
            .transport_config(Arc::new(transport))
            .migration(false)
            .max_incoming(2 * MOST_HANDSHAKES)
            .incoming_buffer_size(4 << 10)
            .incoming_buffer_size_total(256 << 10);
        Ok(Self {
            log,
            archive: Arc::new(archive),
            trust,
            host_name,
            server,
            handshakes: Semaphore::new(MOST_HANDSHAKES),
            per_source: Mutex::default(),
            served: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            quiet,
        })
    }

    /// Opens the endpoints of a scope.
    pub(crate) fn bind(&self, scope: Scope, port: u16) -> Result<Vec<Endpoint>, Failure> {
        let addresses: &[IpAddr] = match scope {
            Scope::Loopback => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            Scope::All => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut failed = None;
        for &address in addresses {
            if scope == Scope::All && !endpoints.is_empty() {
                break; // [::] takes IPv4 too
            }
            let address = SocketAddr::new(address, port);
            let endpoint = socket(address).and_then(|socket| {
                let runtime = Arc::new(quinn::TokioRuntime);
                let (config, server) = (EndpointConfig::default(), Some(self.server.clone()));
                Endpoint::new(config, server, socket, runtime)
            });
            match endpoint {
                Ok(endpoint) => endpoints.push(endpoint),
                // A host may have only one of the two families; a taken port is another matter.
                Err(source) if source.kind() == std::io::ErrorKind::AddrInUse => {
                    return Err(Failure::Bind { address, source });
                }
                Err(source) => failed = Some(Failure::Bind { address, source }),
            }
        }
        match failed {
            Some(failure) if endpoints.is_empty() => Err(failure),
            _ => Ok(endpoints),
        }
    }

    /// Serves an endpoint until it is closed.
    pub(crate) async fn serve(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            // An address that has not proved itself gets a datagram shorter than its own and no
            // memory (RFC 9000 section 8.1).
            if !incoming.remote_address_validated() && incoming.may_retry() {
                let _ = incoming.retry(); // fails only where retrying makes no sense
                continue;
            }
            tokio::spawn(Arc::clone(&self).admit(incoming));
        }
    }

    async fn admit(self: Arc<Self>, incoming: Incoming) {
        let address = incoming.remote_address().ip().to_canonical();
        let (Some(place), Ok(permit)) = (self.enter(address), self.handshakes.try_acquire()) else {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            return;
        };
        let Ok(connecting) = incoming.accept() else { return };
        let connection = match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => connection,
            // An unknown key was counted and said where it was refused.
            Ok(Err(_)) | Err(_) => return,
        };
        drop((place, permit));
        let Some(key) = peer_key(&connection) else { return };
        if self.trust.is_local(key) && !address.is_loopback() {
            let reason = b"this key is good on the tracker's own host only";
            connection.close(VarInt::from_u32(code::NOT_LOCAL), reason);
            return;
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = Arc::clone(&self).converse(&connection, key).await {
            connection.close(VarInt::from_u32(code::PROTOCOL), error.as_bytes());
            if !self.quiet {
                eprintln!("tracker: updater {}: {error}", connection.remote_address());
            }
        }
    }

    /// A place among the handshakes of a source, given back when dropped. A host that has IPv6 has
    /// 2^64 addresses; they count as one.
    fn enter(&self, address: IpAddr) -> Option<Place<'_>> {
        let address = match address {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
            v4 => v4,
        };
        let mut counts = self.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= MOST_PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Place { counts: &self.per_source, address })
    }

    /// Serves the conversations of a connection, until it ends or one of them breaks the protocol.
    async fn converse(
        self: Arc<Self>,
        connection: &Connection,
        key: PublicKey,
    ) -> Result<(), String> {
        let mut conversations = tokio::task::JoinSet::new();
        let mut recheck = tokio::time::interval(RECHECK);
        loop {
            tokio::select! {
                _ = recheck.tick() => if !self.trust.knows(key) {
                    return Err("its key is no longer authorised".to_owned());
                },
                stream = connection.accept_bi() => {
                    let Ok((send, receive)) = stream else { return Ok(()) };
                    let service = Arc::clone(&self);
                    conversations.spawn(async move { service.stream(send, receive).await });
                }
                Some(ended) = conversations.join_next() => {
                    ended.map_err(|error| error.to_string())??;
                }
            }
        }
    }

    async fn stream(&self, mut send: SendStream, mut receive: RecvStream) -> Result<(), String> {
        let mut session = Session::new(self.host_name.as_str());
        let mut changed = self.log.subscribe();
        let mut bytes = vec![0; 4096];
        let mut hung_up = false;
        loop {
            loop {
                changed.mark_unchanged();
                let frame = session.poll_transmit(&self.log.lock(), clock()?);
                if let Some(frame) = frame {
                    // Waits while the updater is slow; the log does not.
                    if send.write_all(&frame).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                let Some(wanted) = session.poll_read() else { break };
                let archive = Arc::clone(&self.archive);
                let supply = tokio::task::spawn_blocking(move || archive.supply(wanted)).await;
                let supply = supply.map_err(|error| error.to_string())?;
                let wait = supply == Supply::Nothing;
                session.supply(supply);
                if wait {
                    break;
                }
            }
            if session.is_finished() {
                let _ = send.finish(); // the updater may have gone already
                return Ok(());
            }
            let silence = match session.poll_timeout() {
                Some(due) => Duration::from_nanos(due.0.saturating_sub(clock()?.0)),
                None => IDLE,
            };
            tokio::select! {
                read = receive.read(&mut bytes), if !hung_up => match read {
                    Ok(Some(count)) => {
                        session.receive(&bytes[..count]).map_err(|error| error.to_string())?;
                    }
                    Ok(None) if session.is_asked() => hung_up = true,
                    Ok(None) => return Ok(()),
                    Err(_) => return Ok(()),
                },
                _ = changed.changed() => {}
                () = tokio::time::sleep(silence) => {}
            }
        }
    }

    /// What happened, for people.
    pub(crate) fn counts(&self) -> String {
        format!(
            "{} connections served, {} refused for their key, {} turned away",
            self.served.load(Ordering::Relaxed),
            self.trust.refused(),
            self.turned_away.load(Ordering::Relaxed),
        )
    }
}

/// Tells the updaters of endpoints that the tracker stops, and waits until they heard it.
pub(crate) async fn close(endpoints: Vec<Endpoint>) {
    for endpoint in &endpoints {
        endpoint.close(VarInt::from_u32(code::STOPPING), b"the tracker stops");
    }
    for endpoint in &endpoints {
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    }
}

fn clock() -> Result<BootTime, String> {
    procflow_probe::now().map_err(|error| error.to_string())
}

fn peer_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<quinn::rustls::pki_types::CertificateDer<'_>>>().ok()?;
    PublicKey::from_spki(chain.first()?)
}

fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

struct Place<'a> {
    counts: &'a Mutex<HashMap<IpAddr, usize>>,
    address: IpAddr,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
