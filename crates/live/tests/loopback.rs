//! Recent flows of the real loopback interface: what datagrams between two sockets are told as.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use procflow_capture::LiveError;
use procflow_core::features::Way;
use procflow_core::flow::{Missed, Remote};
use procflow_core::presets::preset;
use procflow_live::{LiveFlows, NoFlow, OpenError, RecentFlows, Sessions};

/// A capture of loopback with these settings; says SKIPPED where that is not allowed.
fn lo(change: impl FnOnce(&mut LiveFlows)) -> Option<(RecentFlows, Sessions)> {
    let mut settings = LiveFlows::measuring(&preset("basic").unwrap().columns);
    change(&mut settings);
    match RecentFlows::open(&["lo".to_owned()], settings) {
        Ok(opened) => Some(opened),
        Err(OpenError::Live(why @ LiveError::Open { rights: true, .. })) => {
            // Not by `eprintln!`, which the test runner keeps to itself while a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Two sockets that know each other, and the address of the first.
fn pair() -> (UdpSocket, UdpSocket, SocketAddr) {
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (client, service) = (bind(), bind());
    client.connect(service.local_addr().unwrap()).unwrap();
    service.connect(client.local_addr().unwrap()).unwrap();
    let address = client.local_addr().unwrap();
    (client, service, address)
}

/// Long enough that it is a failure if it passes.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_flow_is_told_as_soon_as_it_has_enough_packets_and_then_at_once() {
    let Some((flows, sessions)) = lo(|settings| settings.wait = LONG) else { return };
    let (client, service, address) = pair();
    let asked = tokio::spawn({
        let flows = flows.clone();
        async move { flows.features_of(address).await }
    });
    let waits = async {
        while flows.state().await.unwrap().waiting == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waits).await.unwrap();
    client.send(&[1; 100]).unwrap();
    service.send(&[2; 200]).unwrap();
    client.send(&[3; 300]).unwrap();
    let record = asked.await.unwrap().unwrap();
    assert_eq!((record.packets(Way::Forward), record.packets(Way::Reverse)), (2, 1));
    let counters = &record.flow.counters;
    assert_eq!((counters.forward.payload_octets, counters.reverse.payload_octets), (400, 200));
    assert_eq!((counters.forward.ip_octets, counters.reverse.ip_octets), (456, 228));
    assert_eq!((record.flow.source_port, record.flow.source.ip()), (address.port(), address.ip()));
    let none = Duration::ZERO;
    assert!(flows.within(address.into(), none).await.is_ok());
    let local_port = Some(service.local_addr().unwrap().port());
    assert!(flows.within(Remote { local_port, ..address.into() }, none).await.is_ok());
    let told = sessions.finish();
    assert!(told.failed.is_none() && told.tally.is_conserved(), "{told:?}");
    assert_eq!(flows.features_of(address).await.unwrap_err(), NoFlow::Over);
    flows.ended().await;
}

#[tokio::test]
async fn who_waits_in_vain_hears_why() {
    let Some((flows, _sessions)) = lo(|_| ()) else { return };
    let (client, _service, address) = pair();
    let wait = Duration::from_millis(300);
    let missed = flows.within(address.into(), wait).await.unwrap_err();
    assert_eq!(missed, NoFlow::Missed(Missed::NotSeen));
    client.send(b"one").unwrap();
    let missed = flows.within(address.into(), wait).await.unwrap_err();
    assert_eq!(missed, NoFlow::Missed(Missed::TooFew { packets: 1, least: 3 }));
}

#[tokio::test]
async fn who_no_longer_waits_makes_room() {
    let Some((flows, sessions)) = lo(|settings| settings.recent.waiting = 1) else { return };
    let (_client, _service, address) = pair();
    for _ in 0..3 {
        let asked = flows.within(address.into(), LONG);
        let gone = tokio::time::timeout(Duration::from_millis(50), asked).await;
        assert!(gone.is_err(), "{gone:?}");
    }
    // One that stays leaves none.
    let stays = tokio::spawn({
        let flows = flows.clone();
        async move { flows.within(address.into(), LONG).await }
    });
    let busy = async {
        while flows.within(address.into(), Duration::ZERO).await.err() != Some(NoFlow::Busy) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, busy).await.unwrap();
    // It hears when there is nobody to answer.
    drop(sessions);
    assert_eq!(stays.await.unwrap().unwrap_err(), NoFlow::Over);
}
