//! A feed: the events of one tracker, pulled over QUIC into the histories.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procflow_binding::{ClockSample, Histories, HostId, Incarnation, Position};
use procflow_core::Timestamp;
use procflow_wire::{Client, Delivery, Mode, ProtocolError, PublicKey, TlsError, TlsIdentity};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};

use crate::trust::{Check, Expected, Newcomers, Trust, TrustError};

/// How long a tracker may take to answer before it counts as not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a tracker may be silent in a conversation. It has something to say every second.
const SILENCE: Duration = Duration::from_secs(15);

/// How long a tracker may take to tell all it knows, before others get their turn.
const LONGEST: Duration = Duration::from_secs(300);

/// TLS' alert "access denied" (RFC 8446 section 6.2) as QUIC carries it (RFC 9001 section 4.8).
const ACCESS_DENIED: u64 = 0x100 + 49;

/// Why a tracker could not be followed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message says")]
pub enum FeedError {
    /// Its name means no address.
    #[error("cannot find {name}: {source}")]
    Resolve { name: String, source: std::io::Error },
    /// Nothing answers there.
    #[error(
        "no answer from the tracker at {name} within {}; is `tracker` running there, and may UDP \
         reach it?",
        humantime::format_duration(PATIENCE)
    )]
    NoAnswer { name: String },
    /// The conversation broke off.
    #[error("the tracker at {name} went silent: {reason}")]
    Lost { name: String, reason: String },
    /// Nobody said to trust its key.
    #[error(
        "the tracker at {name} is not known yet; its key is\n  {}\nIf that is what `tracker \
         --show-key` prints there, trust it with\n  --trust {}{hint}",
        key.fingerprint(), key.fingerprint()
    )]
    UnknownTracker { name: String, key: PublicKey, hint: String },
    /// Its key is another one than before.
    #[error(
        "the key of the tracker at {name} has CHANGED: it should be\n  {expected}\nand is\n  \
         {}\nIf it was made anew, remove the old one from {}; if not, somebody else answers there",
        key.fingerprint(), known.display()
    )]
    ChangedKey { name: String, key: PublicKey, expected: String, known: std::path::PathBuf },
    /// It does not trust our key.
    #[error(
        "the tracker at {name} does not let this updater in. To let it in, run there (as the user \
         that runs it, and with its --state if it has one)\n  tracker --authorize '{own} updater'{hint}"
    )]
    NotAuthorized { name: String, own: PublicKey, hint: String },
    /// What it says cannot be understood.
    #[error("the tracker at {name} does not speak this protocol: {source}")]
    Protocol { name: String, source: ProtocolError },
    /// Keys or lists cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is followed already.
    #[error("the tracker at {0} is one that is followed already, under another name")]
    Twice(String),
    /// There is no socket to be had.
    #[error("cannot open a UDP socket: {0}")]
    Socket(std::io::Error),
}

impl FeedError {
    /// Whether a person has to act before it can get better.
    #[must_use]
    pub fn is_about_trust(&self) -> bool {
        matches!(
            self,
            Self::UnknownTracker { .. }
                | Self::ChangedKey { .. }
                | Self::NotAuthorized { .. }
                | Self::Trust(TrustError::Key { .. } | TrustError::Make(_))
        )
    }

    /// The exit code of programs for it: 4 where a person has to act, 3 where time may help.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.is_about_trust() { 4 } else { 3 }
    }
}

/// One tracker, and how far it has been followed.
#[derive(Debug)]
pub struct Feed {
    /// Who asks, and its version.
    program: &'static str,
    /// As the user wrote it, with the port.
    name: String,
    host: String,
    port: u16,
    newcomers: Newcomers,
    position: Option<Position>,
    link: Option<Link>,
    /// The key that was trusted and remembered when it was first met.
    met: Option<PublicKey>,
}

/// A connection to it.
#[derive(Debug)]
struct Link {
    endpoint: Endpoint,
    connection: Connection,
    /// Whom its key speaks for.
    host: HostId,
    check: Arc<Check>,
    own: PublicKey,
    closed_to_us: Option<std::path::PathBuf>,
}

impl Feed {
    /// A tracker that nobody has spoken to yet. `program` is who asks, with its version.
    #[must_use]
    pub fn new(program: &'static str, host: &str, port: u16, newcomers: Newcomers) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { program, name, host, port, newcomers, position: None, link: None, met: None }
    }

    /// One that is written as `HOST:PORT`; nothing if it is not.
    #[must_use]
    pub fn at(program: &'static str, tracker: &str, newcomers: Newcomers) -> Option<Self> {
        let (host, port) = tracker.rsplit_once(':')?;
        Some(Self::new(program, host, port.parse().ok()?, newcomers))
    }

    /// The host that it speaks for, once it has been heard.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        self.position.map(|position| position.incarnation.host)
    }

    /// What it is called: host and port, as the user wrote them.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key of a tracker that has just been met for the first time, and is trusted from now on; told
    /// once.
    pub fn newly_met(&mut self) -> Option<PublicKey> {
        self.met.take()
    }

    /// Gets everything that the tracker knows now; whose host it is. `others` are followed already.
    ///
    /// # Errors
    /// When it cannot be reached, is not trusted, or does not keep up the conversation. What came until
    /// then is in the histories, and the next pull goes on from there.
    pub async fn pull(
        &mut self,
        trust: &Trust,
        histories: &mut Histories,
        others: &[HostId],
    ) -> Result<HostId, FeedError> {
        let name = self.name.clone();
        match tokio::time::timeout(LONGEST, self.pull_all(trust, histories, others)).await {
            Ok(result) => result,
            Err(_) => {
                // What came is kept; it goes on from there.
                self.link = None;
                let longest = humantime::format_duration(LONGEST);
                Err(FeedError::Lost { name, reason: format!("not up to date after {longest}") })
            }
        }
    }

    async fn pull_all(
        &mut self,
        trust: &Trust,
        histories: &mut Histories,
        others: &[HostId],
    ) -> Result<HostId, FeedError> {
        // A connection that was left open may be dead without either side knowing.
        let stale = self.link.as_ref().is_none_or(|l| l.connection.close_reason().is_some());
        if stale {
            let (link, met) = self.connect(trust).await?;
            self.link = Some(link);
            self.met = met.or(self.met.take());
        }
        let host = self.link.as_ref().map(|link| link.host);
        let host = host.ok_or_else(|| FeedError::NoAnswer { name: self.name.clone() })?;
        if others.contains(&host) {
            self.link = None;
            return Err(FeedError::Twice(self.name.clone()));
        }
        let result = self.converse(Mode::Pull, histories).await;
        if result.is_err() {
            self.link = None;
        }
        result.map(|()| host)
    }

    /// Stays and listens, until dropped.
    ///
    /// # Errors
    /// It ends with nothing else.
    pub async fn listen(&mut self, histories: &mut Histories) -> Result<(), FeedError> {
        if self.link.is_none() {
            return std::future::pending().await;
        }
        let result = self.converse(Mode::Subscribe, histories).await;
        self.link = None;
        result
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.connection.close(VarInt::from_u32(0), b"done");
            let _ =
                tokio::time::timeout(Duration::from_millis(200), link.endpoint.wait_idle()).await;
        }
    }

    async fn connect(&self, trust: &Trust) -> Result<(Link, Option<PublicKey>), FeedError> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| FeedError::Resolve { name: self.name.clone(), source })?;
        let mut failure = FeedError::NoAnswer { name: self.name.clone() };
        for address in addresses {
            match self.connect_to(address, trust).await {
                Ok(link) => return Ok(link),
                Err(error) if error.is_about_trust() => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The connection, and the tracker's key if it was met for the first time.
    async fn connect_to(
        &self,
        address: SocketAddr,
        trust: &Trust,
    ) -> Result<(Link, Option<PublicKey>), FeedError> {
        let introduction = trust.introduce(&self.name, address.ip(), &self.newcomers)?;
        let check = Arc::new(introduction.check);
        let own = introduction.identity.public();
        let tls = TlsIdentity::new(&introduction.identity)?.client(Arc::clone(&check) as _)?;
        let tls = QuicClientConfig::try_from(tls).map_err(|_| FeedError::Lost {
            name: self.name.clone(),
            reason: "no cipher for QUIC".to_owned(),
        })?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(Duration::from_secs(5)))
            .max_idle_timeout(Duration::from_secs(30).try_into().ok());
        config.transport_config(Arc::new(transport));
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let endpoint = Endpoint::client(any).map_err(FeedError::Socket)?;
        let no_answer = || FeedError::NoAnswer { name: self.name.clone() };
        let connecting =
            endpoint.connect_with(config, address, "procflow").map_err(|_| no_answer())?;
        let hint = introduction.closed_to_us.clone();
        let connection = match tokio::time::timeout(PATIENCE, connecting).await {
            Err(_) => return Err(no_answer()),
            Ok(Err(error)) => {
                return Err(refused(&self.name, &error, &check, own, hint.as_deref()));
            }
            Ok(Ok(connection)) => connection,
        };
        let Some(key) = check.seen() else { return Err(no_answer()) };
        let met = matches!(check.expected(), Expected::Any | Expected::Fingerprint(_));
        if met {
            trust.remember(&self.name, key)?;
        }
        let (host, closed_to_us) = (key.host(), introduction.closed_to_us);
        let link = Link { endpoint, connection, host, check, own, closed_to_us };
        Ok((link, met.then_some(key)))
    }

    async fn converse(&mut self, mode: Mode, histories: &mut Histories) -> Result<(), FeedError> {
        let Self { program, name, position, link, .. } = self;
        let Some(link) = link else { return Err(FeedError::NoAnswer { name: name.clone() }) };
        let mut client = Client::new(*program, link.host, *position, mode);
        let lost = |reason: String| match link.connection.close_reason() {
            Some(error) => {
                refused(name, &error, &link.check, link.own, link.closed_to_us.as_deref())
            }
            None => FeedError::Lost { name: name.clone(), reason },
        };
        let (mut send, mut receive) =
            link.connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
        let mut bytes = vec![0; 64 << 10];
        let mut of = None;
        let result = loop {
            if let Err(reason) = transmit(&mut client, &mut send).await {
                break Err(lost(reason));
            }
            if client.is_finished() {
                break Ok(());
            }
            let count = match read(&mut receive, &mut bytes).await {
                Ok(count) => count,
                Err(reason) => break Err(lost(reason)),
            };
            let heard = client.receive(&bytes[..count], |delivery| {
                deliver(delivery, &mut of, histories);
            });
            // Kept after every step: this future may be dropped at any await.
            *position = client.position();
            if let Err(source) = heard {
                break Err(FeedError::Protocol { name: name.clone(), source });
            }
        };
        let _ = send.finish(); // the connection may be gone; then there is nobody to tell
        result
    }
}

/// What a failed connection means.
fn refused(
    name: &str,
    error: &ConnectionError,
    check: &Check,
    own: PublicKey,
    closed_to_us: Option<&std::path::Path>,
) -> FeedError {
    let name = name.to_owned();
    let hint = closed_to_us.map_or_else(String::new, |path| {
        format!(
            "\n(or, on this host, as a user who may read {}: root, or a member of its group)",
            path.display()
        )
    });
    if let (Some(key), ConnectionError::TransportError(_)) = (check.seen(), error) {
        match check.expected() {
            Expected::Unknown => return FeedError::UnknownTracker { name, key, hint },
            Expected::Key(expected, known) if *expected != key => {
                let (expected, known) = (expected.fingerprint(), known.clone());
                return FeedError::ChangedKey { name, key, expected, known };
            }
            Expected::Fingerprint(expected) if *expected != key.fingerprint() => {
                let (expected, known) = (expected.clone(), "--trust".into());
                return FeedError::ChangedKey { name, key, expected, known };
            }
            _ => {}
        }
    }
    match error {
        ConnectionError::ConnectionClosed(close)
            // Before it showed its key, anybody could have said so.
            if u64::from(close.error_code) == ACCESS_DENIED && check.seen().is_some() =>
        {
            FeedError::NotAuthorized { name, own, hint }
        }
        ConnectionError::TimedOut => FeedError::NoAnswer { name },
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            FeedError::Lost { name, reason }
        }
        error => FeedError::Lost { name, reason: error.to_string() },
    }
}

async fn transmit(client: &mut Client, send: &mut SendStream) -> Result<(), String> {
    while let Some(frame) = client.poll_transmit() {
        send.write_all(&frame).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn read(receive: &mut RecvStream, bytes: &mut [u8]) -> Result<usize, String> {
    match tokio::time::timeout(SILENCE, receive.read(bytes)).await {
        Ok(Ok(Some(count))) => Ok(count),
        Ok(Ok(None)) => Err("it hung up".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing for {}", humantime::format_duration(SILENCE))),
    }
}

/// Writes what a tracker said into its history. `of` is the incarnation that it speaks of.
fn deliver(delivery: Delivery, of: &mut Option<Incarnation>, histories: &mut Histories) {
    if let Delivery::Incarnation(incarnation) = delivery {
        *of = Some(incarnation);
    }
    let Some(incarnation) = of else { return };
    let history = histories.entry(incarnation.host, incarnation.boot);
    match delivery {
        Delivery::Welcome { .. } | Delivery::Incarnation(_) => {}
        Delivery::Ended(watched_until) => history.watched_until(watched_until),
        Delivery::Dropped(until) => history.dropped(until),
        Delivery::Event(event) => history.apply(event),
        Delivery::UpToDate { watched_until, now } => {
            history.watched_until(watched_until);
            history.collector_sample(ClockSample { boot: now, real: real_time() });
        }
    }
}

/// This machine's real-time clock.
#[must_use]
pub fn real_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}
