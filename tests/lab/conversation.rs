//! A conversation with a running tracker, as an updater on the same host would have it.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use procflow_binding::Position;
use procflow_wire::{Admission, Client, Delivery, Mode, PublicKey, SecretKey, TlsIdentity};
use quinn::crypto::rustls::QuicClientConfig;

/// Admits the tracker whose state directory this is.
struct Only(PublicKey);

impl Admission for Only {
    fn admits(&self, key: PublicKey) -> bool {
        self.0 == key
    }
}

/// The public key of the tracker with this state directory.
pub fn key(state: &Path) -> Result<PublicKey, Box<dyn Error + Send + Sync>> {
    Ok(std::fs::read_to_string(state.join("tracker.pub"))?.parse()?)
}

/// Hears everything that the tracker with this state directory tells now, from a position on.
pub fn converse(
    state: &Path,
    port: u16,
    from: Option<Position>,
    mut deliver: impl FnMut(Delivery),
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tracker = key(state)?;
    let own = SecretKey::from_pem(&std::fs::read_to_string(state.join("local.key"))?)?;
    let tls = TlsIdentity::new(&own)?.client(Arc::new(Only(tracker)))?;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Another address than the tracker's, whose port must be free when it comes back.
        let own = Ipv4Addr::new(127, 0, 0, 2);
        let endpoint = quinn::Endpoint::client(SocketAddr::from((own, 0)))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let patience = Duration::from_secs(20);
        let connecting = endpoint.connect_with(config, address, "procflow")?;
        let connection = tokio::time::timeout(patience, connecting).await??;
        let mut client = Client::new("test", tracker.host(), from, Mode::Pull);
        let (mut send, mut receive) = connection.open_bi().await?;
        let mut bytes = vec![0; 64 << 10];
        loop {
            while let Some(frame) = client.poll_transmit() {
                send.write_all(&frame).await?;
            }
            if client.is_finished() {
                break;
            }
            let count = tokio::time::timeout(patience, receive.read(&mut bytes)).await??;
            let count = count.ok_or("the tracker hung up")?;
            client.receive(&bytes[..count], &mut deliver)?;
        }
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        Ok(())
    })
}
