//! What a tracker knows, pulled over its service as an updater on the same host would.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use procflow_binding::{Histories, Incarnation};
use procflow_wire::{Admission, Client, Delivery, Mode, PublicKey, SecretKey, TlsIdentity};
use quinn::crypto::rustls::QuicClientConfig;

use crate::Trouble;

/// Admits the tracker whose state directory this is.
struct Only(PublicKey);

impl Admission for Only {
    fn admits(&self, key: PublicKey) -> bool {
        self.0 == key
    }
}

/// The public key of the tracker with this state directory.
pub fn key(state: &Path) -> Result<PublicKey, Trouble> {
    Ok(std::fs::read_to_string(state.join("tracker.pub"))?.parse()?)
}

/// Everything that the tracker with this state directory tells now.
pub fn pull(state: &Path, port: u16) -> Result<Histories, Trouble> {
    let tracker = key(state)?;
    let own = SecretKey::from_pem(&std::fs::read_to_string(state.join("local.key"))?)?;
    let tls = TlsIdentity::new(&own)?.client(Arc::new(Only(tracker)))?;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connection = endpoint.connect_with(config, address, "procflow")?.await?;
        let mut client = Client::new("accuracy", tracker.host(), None, Mode::Pull);
        let (mut send, mut receive) = connection.open_bi().await?;
        let mut histories = Histories::default();
        let mut of = None;
        let mut bytes = vec![0; 64 << 10];
        loop {
            while let Some(frame) = client.poll_transmit() {
                send.write_all(&frame).await?;
            }
            if client.is_finished() {
                break;
            }
            let patience = Duration::from_secs(20);
            let count = tokio::time::timeout(patience, receive.read(&mut bytes)).await??;
            let count = count.ok_or("the tracker hung up")?;
            client.receive(&bytes[..count], |delivery| {
                deliver(delivery, &mut of, &mut histories);
            })?;
        }
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        Ok(histories)
    })
}

fn deliver(delivery: Delivery, of: &mut Option<Incarnation>, histories: &mut Histories) {
    if let Delivery::Incarnation(incarnation) = delivery {
        *of = Some(incarnation);
    }
    let Some(incarnation) = of else { return };
    let history = histories.entry(incarnation.host, incarnation.boot);
    match delivery {
        Delivery::Welcome { .. } | Delivery::Incarnation(_) => {}
        Delivery::Ended(until) | Delivery::UpToDate { watched_until: until, .. } => {
            history.watched_until(until);
        }
        Delivery::Dropped(until) => history.dropped(until),
        Delivery::Event(event) => history.apply(event),
    }
}
