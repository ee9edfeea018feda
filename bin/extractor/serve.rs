//! `extractor serve`: services of this host ask, over HTTP, what a connection of theirs looks like while it
//! goes on.
//!
//! Answers tell who talks to whom, so only loopback is listened on, and a browser on this host must not ask
//! for a page of somewhere else: a Host that is not loopback is refused (DNS rebinding), and so is what a
//! page makes the browser ask. Users of this host are not told apart.
//!
//! Bounded are connections, what each may send and how long it may take; one connection, one question.

use std::convert::Infallible;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use procflow_capture::LiveSettings;
use procflow_core::Endpoint;
use procflow_core::features::Column;
use procflow_core::flow::{Missed, RecentSettings, Remote, Settings};
use procflow_live::{LiveFlows, NoFlow, RecentFlows, Sessions, Told};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::report::Report;
use crate::run;

/// So many connections more than may wait: for those that are answered at once, and those that are told
/// that too many wait. What comes then is left to the kernel's queue.
const SPARE: usize = 64;

/// So long a request may take to come.
const HEADERS: Duration = Duration::from_secs(5);

/// So long an answer may take to go.
const GOING: Duration = Duration::from_secs(5);

/// So long the last answers may take when it ends.
const LAST: Duration = Duration::from_secs(1);

/// A request may be so long, in bytes: the least that the library knows. A question has less than 200.
const REQUEST: usize = 8192;

/// After a connection that could not be accepted, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until a signal comes or nothing can be captured any more.
pub(crate) fn serve(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    if !is_loopback(args.listen.ip()) {
        return Err(Failure::NotLoopback(args.listen));
    }
    let columns = match args.columns.is_empty() {
        true => args.preset.columns.clone(),
        false => run::named(args.preset, &args.columns)?,
    };
    let mut interfaces = args.interfaces.clone();
    if interfaces.is_empty() {
        let default = procflow_probe::default_interface().map_err(Failure::Routes)?;
        interfaces.push(default.ok_or(Failure::NoRoute)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::Runtime)?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
        let listen = |source| Failure::Listen { address: args.listen, source };
        let listener = TcpListener::bind(args.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (flows, sessions) = RecentFlows::open(&interfaces, settings(args, &columns))?;
        if !args.quiet {
            let names = interfaces.join(", ");
            eprintln!("extractor: answering on http://{address}, capturing {names}");
        }
        let answers = Arc::new(Answers { flows: flows.clone(), columns });
        let most = usize::from(args.waiting) + SPARE;
        let connections = Arc::new(Semaphore::new(most));
        let whole = HEADERS.saturating_add(args.wait).saturating_add(GOING);
        let wanted = tokio::select! {
            () = accept(&listener, &answers, &connections, whole) => false,
            () = flows.ended() => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        drop(listener);
        let told = end(sessions, &connections, most).await;
        report(args, told, began.elapsed())?;
        if wanted { Ok(ExitCode::SUCCESS) } else { Err(Failure::Ended) }
    })
}

fn settings(args: &ServeArgs, columns: &[Column]) -> LiveFlows {
    let accounting = args.preset.accounting;
    let flows = Settings {
        capacity: args.capacity,
        accounting,
        ..RecentSettings::measuring(columns).flows
    };
    let recent = RecentSettings {
        flows,
        least_packets: args.min_packets,
        keep: i64::try_from(args.keep.as_nanos()).unwrap_or(i64::MAX),
        waiting: args.waiting.into(),
    };
    let default = LiveFlows::default();
    let live =
        LiveSettings { filter: args.filter.clone(), buffer: args.buffer, ..default.live.clone() };
    LiveFlows { recent, live, wait: args.wait, sweep: args.sweep, ..default }
}

/// Ends the capture: who waits is told so, and those answers may still go.
async fn end(sessions: Sessions, connections: &Semaphore, most: usize) -> Told {
    let told = sessions.finish();
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(LAST, connections.acquire_many(all)).await;
    told
}

fn report(args: &ServeArgs, told: Told, took: Duration) -> Result<(), Failure> {
    let Told { tally, statistics, failed } = told;
    if !args.quiet {
        let report = Report { tally, filtered: 0, captured: Some(statistics), took };
        if args.json {
            eprintln!("{}", report.in_json());
        } else {
            eprintln!("extractor: {}", report.in_text());
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Takes connections as long as it is polled.
async fn accept(
    listener: &TcpListener,
    answers: &Arc<Answers>,
    connections: &Arc<Semaphore>,
    whole: Duration,
) {
    loop {
        let Ok(permit) = Arc::clone(connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(answers);
                tokio::spawn(async move {
                    // Whoever asks too slowly, or does not read the answer, is hung up on.
                    let _ = tokio::time::timeout(whole, converse(stream, &answers)).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One question and its answer. An asker that hangs up is no longer waited for.
async fn converse(stream: TcpStream, answers: &Answers) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answers.to(&request).await));
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(REQUEST)
        .max_headers(32);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// What questions are answered from.
struct Answers {
    flows: RecentFlows,
    columns: Vec<Column>,
}

/// Why a question has no answer: status, a word for machines, a sentence for people.
struct Refused(StatusCode, &'static str, String);

impl Answers {
    async fn to(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let answered = match trusted(request.uri().authority(), request.headers()) {
            Ok(()) => self.answer(request).await,
            Err(refused) => Err(refused),
        };
        let (status, text) = answered.unwrap_or_else(|Refused(status, word, sentence)| {
            (status, json!({ "error": word, "message": sentence }).to_string())
        });
        let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }

    async fn answer(&self, request: &Request<Incoming>) -> Result<(StatusCode, String), Refused> {
        let path = request.uri().path();
        if !matches!(path, "/flow" | "/health") {
            let sentence = "there are /flow and /health".to_owned();
            return Err(Refused(StatusCode::NOT_FOUND, "no-such-path", sentence));
        }
        if request.method() != Method::GET {
            let sentence = "only GET".to_owned();
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "method", sentence));
        }
        if path == "/health" {
            return self.health().await;
        }
        let remote = question(request.uri().query().unwrap_or_default())
            .map_err(|why| Refused(StatusCode::BAD_REQUEST, "bad-question", why))?;
        let record = self.flows.features_of(remote).await?;
        Ok((StatusCode::OK, procflow_live::json(&self.columns, &record)))
    }

    async fn health(&self) -> Result<(StatusCode, String), Refused> {
        let state = self.flows.state().await?;
        let text = json!({
            "capturing": true,
            "lost_interfaces": state.lost,
            "frames": state.tally.frames,
            "packets": state.tally.flows.packets,
            "flows": state.flows,
            "evicted": state.tally.flows.evicted,
            "waiting": state.waiting,
        });
        Ok((StatusCode::OK, text.to_string()))
    }
}

impl From<NoFlow> for Refused {
    fn from(why: NoFlow) -> Self {
        let (status, word) = match why {
            NoFlow::Missed(Missed::NotSeen) => (StatusCode::NOT_FOUND, "not-seen"),
            NoFlow::Missed(Missed::TooFew { .. }) => (StatusCode::NOT_FOUND, "too-few-packets"),
            NoFlow::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            NoFlow::Over => (StatusCode::SERVICE_UNAVAILABLE, "capture-ended"),
        };
        Self(status, word, why.to_string())
    }
}

/// Which flow is asked for: address, port, and perhaps local_port, each once.
fn question(query: &str) -> Result<Remote, String> {
    let (mut address, mut port, mut local_port) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || {
            value.parse::<u16>().map_err(|_| format!("{name}={value:?} is no port of 0 to 65535"))
        };
        let before = match &*name {
            "address" => {
                let parsed = value.parse::<IpAddr>();
                let parsed = parsed.map_err(|_| format!("address={value:?} is no IP address"))?;
                address.replace(parsed).is_some()
            }
            "port" => port.replace(number()?).is_some(),
            "local_port" => local_port.replace(number()?).is_some(),
            _ => return Err(format!("{name:?} is not known; there are address, port, local_port")),
        };
        if before {
            return Err(format!("{name} is there twice"));
        }
    }
    let address = address.ok_or("address is missing")?;
    let port = port.ok_or("port is missing")?;
    Ok(Remote { endpoint: Endpoint::new(address, port), local_port })
}

/// Whether a request is one of a program on this host, and not of a page that a browser shows.
fn trusted(target: Option<&Authority>, headers: &HeaderMap) -> Result<(), Refused> {
    let refused =
        |sentence: &str| Err(Refused(StatusCode::FORBIDDEN, "not-local", sentence.to_owned()));
    let host = headers.get(HOST).map(HeaderValue::as_bytes).map(Authority::try_from);
    let Some(Ok(host)) = host else {
        return refused("there is no Host");
    };
    if headers.get_all(HOST).iter().count() > 1 {
        return refused("there are several Hosts");
    }
    let all = [Some(&host), target];
    if !all.into_iter().flatten().all(|authority| is_local_name(authority.host())) {
        return refused("the Host is not loopback");
    }
    let site = headers.get("sec-fetch-site");
    if headers.contains_key(ORIGIN) || site.is_some_and(|site| site.as_bytes() != b"none") {
        return refused("pages in browsers are not answered");
    }
    Ok(())
}

/// Whether this is what loopback is called.
fn is_local_name(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || literal.parse().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_question_is_an_address_and_a_port() {
        let remote = |text: &str, local_port| {
            let endpoint = Endpoint::from(text.parse::<SocketAddr>().unwrap());
            Ok(Remote { endpoint, local_port })
        };
        for (query, expected) in [
            ("address=192.0.2.7&port=51234", remote("192.0.2.7:51234", None)),
            ("local_port=443&port=0&address=%3A%3A1", remote("[::1]:0", Some(443))),
            ("address=::ffff:192.0.2.7&port=1", remote("192.0.2.7:1", None)),
        ] {
            assert_eq!(question(query), expected, "{query}");
        }
    }

    #[test]
    fn a_wrong_question_hears_what_is_wrong() {
        for (query, said) in [
            ("", "address is missing"),
            ("address=192.0.2.7", "port is missing"),
            ("address=example.org&port=1", "address=\"example.org\" is no IP address"),
            ("address=192.0.2.7&port=65536", "port=\"65536\" is no port"),
            ("address=192.0.2.7&port=-1", "port=\"-1\" is no port"),
            ("address=192.0.2.7&port=1&port=2", "port is there twice"),
            ("address=192.0.2.7&port=1&localport=2", "\"localport\" is not known"),
            ("address=%ff%00&port=1", "is no IP address"),
        ] {
            let error = question(query).unwrap_err();
            assert!(error.contains(said), "{query}: {error}");
        }
    }

    #[test]
    fn only_programs_of_this_host_are_answered() {
        let asked = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())
            });
            let mut map = HeaderMap::new();
            headers.for_each(|(name, value): (hyper::header::HeaderName, _)| {
                map.append(name, value);
            });
            trusted(None, &map).map_err(|Refused(status, _, sentence)| (status.as_u16(), sentence))
        };
        for host in ["127.0.0.1:8731", "LOCALHOST", "localhost:8731", "[::1]:8731", "127.9.9.9"] {
            assert_eq!(asked(&[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(asked(&[("host", "127.0.0.1"), ("sec-fetch-site", "none")]), Ok(()));
        for headers in [
            &[][..],
            &[("host", "")],
            &[("host", "evil.example:8731")],
            &[("host", "127.0.0.1.evil.example")],
            &[("host", "localhost.evil.example")],
            &[("host", "192.0.2.1:8731")],
            &[("host", "0.0.0.0:8731")],
            &[("host", "127.0.0.1"), ("host", "evil.example")],
            &[("host", "127.0.0.1"), ("origin", "https://evil.example")],
            &[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(asked(headers).map_err(|(status, _)| status), Err(403), "{headers:?}");
        }
        let target = Authority::from_static("evil.example");
        let local = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1"))]);
        assert!(trusted(Some(&target), &local).is_err());
    }
}
