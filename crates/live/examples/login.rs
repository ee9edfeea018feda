//! A web server that answers a login with the features of the very connection that the login came over.
//!
//! ```text
//! cargo run -p procflow-live --example login -- lo 127.0.0.1:8080     (CAP_NET_RAW)
//! curl --data 'user=alice' http://127.0.0.1:8080/login
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::{Router, post};
use procflow_core::features::Column;
use procflow_core::flow::Remote;
use procflow_core::presets::preset;
use procflow_live::{LiveFlows, NoFlow, RecentFlows};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What every login needs.
struct Site {
    flows: RecentFlows,
    columns: &'static [Column],
    port: u16,
}

/// Who logs in is judged elsewhere; this says how the connection looked.
async fn login(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> (StatusCode, Json<Value>) {
    // The near port as well: then nobody else's packets answer for this connection.
    let remote = Remote { local_port: Some(site.port), ..Remote::from(peer) };
    match site.flows.features_of(remote).await {
        Ok(record) => {
            let flow: Option<Value> =
                serde_json::from_str(&procflow_live::json(site.columns, &record)).ok();
            (StatusCode::OK, Json(json!({ "flow": flow })))
        }
        // A login does not fail for want of features.
        Err(why @ NoFlow::Missed(_)) => {
            (StatusCode::OK, Json(json!({ "flow": null, "why": why.to_string() })))
        }
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "why": why.to_string() }))),
    }
}

/// The site, to be served on this listener's port.
fn site(flows: RecentFlows, columns: &'static [Column], port: u16) -> Router {
    Router::new().route("/login", post(login)).with_state(Arc::new(Site { flows, columns, port }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().unwrap_or_else(|| "lo".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let columns = &preset("basic").ok_or("there is no such preset")?.columns;
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let mut settings = LiveFlows::measuring(columns);
    settings.live.filter = Some(format!("tcp port {}", address.port()));
    let (flows, _sessions) = RecentFlows::open(&[interface], settings)?;
    println!("http://{address}/login");
    let site = site(flows, columns, address.port());
    axum::serve(listener, site.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_capture::LiveError;
    use procflow_live::OpenError;
    use std::io::Write;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_login_is_answered_with_the_flow_of_its_own_connection() {
        let columns = &preset("basic").unwrap().columns;
        let opened = RecentFlows::open(&["lo".to_owned()], LiveFlows::measuring(columns));
        let (flows, _sessions) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Live(why @ LiveError::Open { rights: true, .. })) => {
                return drop(writeln!(std::io::stderr(), "SKIPPED: {why}"));
            }
            Err(other) => panic!("{other}"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = site(flows, columns, address.port());
        let service = site.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        for _ in 0..3 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let own = client.local_addr().unwrap();
            let request = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
                Connection: close\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
            let flow = &serde_json::from_str::<Value>(body).unwrap()["flow"];
            assert_eq!(flow["source_address"], "127.0.0.1", "{answer}");
            assert_eq!(flow["source_port"], own.port());
            assert_eq!(flow["destination_port"], address.port());
            // The handshake for certain; the request may not have been seen yet.
            assert_eq!(flow["bidirectional_syn_packets"], 2);
            let sent = flow["forward_payload_octets"].as_u64().unwrap();
            assert!(sent == 0 || sent == request.len() as u64, "{answer}");
        }
    }
}
