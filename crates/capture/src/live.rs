//! A live session: frames of a network interface as they pass, by libpcap.
//!
//! The kernel keeps frames in a buffer until they are asked for; what does not fit is counted
//! ([`Statistics`]). Capturing takes the capability CAP_NET_RAW, promiscuous mode CAP_NET_ADMIN as well.

use pcap::{Active, Capture, Device, Linktype, Precision};

use procflow_core::{
    Timestamp,
    packet::{Batch, LinkType},
};

/// How an interface is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// Which frames are wanted, in libpcap's language (pcap-filter(7)); all without.
    pub filter: Option<String>,
    /// Whether frames are wanted that are for others.
    pub promiscuous: bool,
    /// How many bytes the kernel keeps.
    pub buffer: u32,
    /// How long the kernel may keep frames to hand over more at once, in milliseconds; 0 for not at all.
    pub timeout: u32,
    /// Whether a wireless interface is to hear everything that is on the air.
    pub monitor: bool,
    /// How much of each frame is kept.
    pub snap_length: u32,
}

impl Default for LiveSettings {
    /// Promiscuous, 10 MB of buffer, a second, whole frames.
    fn default() -> Self {
        Self {
            filter: None,
            promiscuous: true,
            buffer: 10_000_000,
            timeout: 1000,
            monitor: false,
            snap_length: 65_535,
        }
    }
}

/// Why an interface cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It cannot be opened.
    #[error("{interface}: {source}{}", if *.rights { " (capturing takes CAP_NET_RAW: see docs/operations.md)" } else { "" })]
    Open {
        /// Which.
        interface: String,
        /// Why.
        source: pcap::Error,
        /// Whether rights are missing.
        rights: bool,
    },
    /// The filter is wrong.
    #[error("filter {expression:?}: {source}")]
    Filter {
        /// What was asked for.
        expression: String,
        /// What is wrong with it.
        source: pcap::Error,
    },
    /// It can no longer be captured.
    #[error("{interface}: {source}")]
    Read {
        /// Which.
        interface: String,
        /// Why.
        source: pcap::Error,
    },
    /// The interfaces cannot be listed.
    #[error("cannot list interfaces: {0}")]
    List(#[source] pcap::Error),
}

/// What the kernel says of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that passed the filter.
    pub received: u64,
    /// Those that did not fit into the buffer.
    pub dropped: u64,
    /// Those that the interface or its driver dropped, where that is known.
    pub dropped_by_interface: u64,
}

impl Statistics {
    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            dropped: self.dropped + other.dropped,
            dropped_by_interface: self.dropped_by_interface + other.dropped_by_interface,
        }
    }
}

/// A session with one interface.
pub struct Live {
    capture: Capture<Active>,
    interface: String,
    link_type: LinkType,
    statistics: Statistics,
    warning: Option<String>,
    over: bool,
}

/// Ends the waiting of a session, from another thread.
pub struct Stopper(pcap::BreakLoop);

impl Stopper {
    /// The session's next batch is its last one.
    pub fn stop(&self) {
        self.0.breakloop();
    }
}

/// A batch is handed on when it has so many bytes, though there may be more.
const ENOUGH: usize = 1 << 20;

/// Frames asked for at once.
const AT_ONCE: usize = 1024;

impl Live {
    /// Opens an interface by its name; `any` is all of them.
    ///
    /// # Errors
    /// When there is no such interface, it cannot be captured, or the filter is wrong.
    pub fn open(interface: &str, settings: &LiveSettings) -> Result<Self, LiveError> {
        let failed = |source: pcap::Error| {
            let text = source.to_string();
            let rights = text.contains("permission") || text.contains("not permitted");
            LiveError::Open { interface: interface.to_owned(), source, rights }
        };
        let (mut capture, warning) = match activate(interface, settings, settings.promiscuous) {
            Ok(capture) => (capture, None),
            Err(source) => {
                let first = failed(source);
                // The binding takes a warning of libpcap for an error. Nearly all are of this: the interface
                // cannot be promiscuous (pcap_activate(3PCAP), PCAP_WARNING_PROMISC_NOTSUP).
                let again =
                    settings.promiscuous && !matches!(first, LiveError::Open { rights: true, .. });
                match again.then(|| activate(interface, settings, false)) {
                    Some(Ok(capture)) => (capture, Some(first.to_string())),
                    _ => return Err(first),
                }
            }
        };
        if let Some(expression) = &settings.filter {
            capture.filter(expression, true).map_err(|source| {
                let expression = expression.clone();
                LiveError::Filter { expression, source }
            })?;
        }
        let link_type = of_dlt(capture.get_datalink());
        let interface = interface.to_owned();
        let statistics = Statistics::default();
        Ok(Self { capture, interface, link_type, statistics, warning, over: false })
    }

    /// What libpcap warned of when the session was opened: that it is not promiscuous, and why. Other
    /// warnings cannot be told from errors, and the session is not opened.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// What kind of frames the interface has.
    #[must_use]
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// What ends the session's waiting.
    #[must_use]
    pub fn stopper(&mut self) -> Stopper {
        Stopper(self.capture.breakloop_handle())
    }

    /// Waits for frames and takes them into `batch`, in place of what is in it. A batch without frames may
    /// come at any time; after [`Stopper::stop`] the session [is over](Self::is_over).
    ///
    /// # Errors
    /// When the interface is gone; the frames before are in the batch.
    pub fn next_batch(&mut self, batch: &mut Batch) -> Result<(), LiveError> {
        batch.clear();
        let link_type = self.link_type;
        loop {
            let taken = self.capture.dispatch(Some(AT_ONCE), |packet| {
                let header = packet.header;
                // Nanoseconds were asked for, in the place of microseconds.
                let (seconds, nanos) = (header.ts.tv_sec, header.ts.tv_usec);
                let time = Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
                batch.push(time, header.len, link_type, packet.data);
            });
            match taken {
                Ok(taken) if taken == AT_ONCE && batch.filled().len() < ENOUGH => {}
                Ok(_) | Err(pcap::Error::TimeoutExpired) => return Ok(()),
                Err(source) => {
                    self.over = true;
                    // Stopped: libpcap has no more to say than that.
                    let stopped =
                        matches!(&source, pcap::Error::PcapError(text) if text.is_empty());
                    let stopped = stopped || matches!(source, pcap::Error::NoMorePackets);
                    let interface = self.interface.clone();
                    return if stopped {
                        Ok(())
                    } else {
                        Err(LiveError::Read { interface, source })
                    };
                }
            }
        }
    }

    /// Whether the session was stopped, or its interface is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What the kernel says of the session so far.
    pub fn statistics(&mut self) -> Statistics {
        if let Ok(now) = self.capture.stats() {
            let since = |total: u64, now: u32| {
                // The kernel counts in 32 bits.
                total + u64::from(now.wrapping_sub(total as u32))
            };
            let before = self.statistics;
            self.statistics = Statistics {
                received: since(before.received, now.received),
                dropped: since(before.dropped, now.dropped),
                dropped_by_interface: since(before.dropped_by_interface, now.if_dropped),
            };
        }
        self.statistics
    }
}

/// Begins a session.
fn activate(
    interface: &str,
    settings: &LiveSettings,
    promiscuous: bool,
) -> Result<Capture<Active>, pcap::Error> {
    let bounded = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut capture = Capture::from_device(interface)?
        .promisc(promiscuous)
        .buffer_size(bounded(settings.buffer))
        .snaplen(bounded(settings.snap_length))
        .precision(Precision::Nano)
        .timeout(bounded(settings.timeout).max(1))
        .immediate_mode(settings.timeout == 0);
    if settings.monitor {
        capture = capture.rfmon(true);
    }
    capture.open()
}

/// The link type that capture files have for what libpcap says of a device: a few have other numbers
/// there (tcpdump.org/linktypes.html).
fn of_dlt(Linktype(dlt): Linktype) -> LinkType {
    match dlt {
        12 | 14 => LinkType::RAW,
        dlt => LinkType(u32::try_from(dlt).unwrap_or(u32::MAX)),
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What libpcap says of it.
    pub description: Option<String>,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
}

/// The interfaces that can be captured.
///
/// # Errors
/// When libpcap cannot list them.
pub fn interfaces() -> Result<Vec<Interface>, LiveError> {
    let all = Device::list().map_err(LiveError::List)?;
    let one = |device: Device| Interface {
        up: device.flags.is_up(),
        loopback: device.flags.is_loopback(),
        addresses: device.addresses.iter().map(|address| address.addr).collect(),
        name: device.name,
        description: device.desc,
    };
    Ok(all.into_iter().map(one).collect())
}
