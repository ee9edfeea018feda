//! When to stop: a signal, or nobody reads what is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Whether to stop, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicU8>);

/// How often those who wait look whether it is wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Not to stop; to stop without a signal.
const GO_ON: u8 = 0;
const WANTED: u8 = 255;

impl Stop {
    /// Listens for SIGINT and SIGTERM from now on, in a thread of its own.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let stop = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::Signals)?;
        let (mut interrupt, mut terminate) = runtime
            .block_on(async {
                Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
            })
            .map_err(Failure::Signals)?;
        let heard = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let number = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                };
                let number = u8::try_from(number.as_raw_value()).unwrap_or(WANTED);
                let _ =
                    heard.0.compare_exchange(GO_ON, number, Ordering::Relaxed, Ordering::Relaxed);
            });
        });
        Ok(stop)
    }

    /// Stops.
    pub(crate) fn want(&self) {
        let _ = self.0.compare_exchange(GO_ON, WANTED, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed) != GO_ON
    }

    /// Waits until it is wanted.
    pub(crate) async fn wanted(&self) {
        while !self.is_wanted() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The signal that asked for it, if one did.
    pub(crate) fn signal(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&signal| signal != GO_ON && signal != WANTED)
    }
}
