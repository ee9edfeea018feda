//! Prints the HTTP/1 requests of a capture file with their answers: who asked whom for what, what the answer
//! was, and how long it took to begin.
//!
//!     cargo run -p procflow-capture --example http -- capture.pcap
//!
//! A worked example of following a protocol over sessions: the octets of both directions come in order,
//! messages are found in them (RFC 9112), and each answer belongs to the oldest request that has none. What
//! is held of a connection is bounded: the head of one message, and requests that wait.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use procflow_core::flow::Direction;
use procflow_core::session::{Event, EventKind, SessionId};
use procflow_core::{FlowKey, Timestamp};

mod connections;

use connections::{follow, harmless};

/// The head of a message is not longer; servers refuse less.
const LONGEST_HEAD: usize = 64 << 10;
/// So many headers a message has at most.
const MOST_HEADERS: usize = 128;
/// So many requests wait for their answers at most; clients seldom send two.
const MOST_WAITING: usize = 256;

/// A request, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The client is the source.
    pub(crate) key: FlowKey,
    /// When the head of the request was all there.
    pub(crate) time: Timestamp,
    /// The method, as it was sent.
    pub(crate) method: String,
    /// The host that it asks for.
    pub(crate) host: Option<String>,
    /// What it asks for.
    pub(crate) target: String,
    /// The status of the answer, and how long after the request its head was there, in nanoseconds.
    pub(crate) answer: Option<(u16, i64)>,
}

/// Tells all exchanges of a capture file: each when it is answered, or when its connection is over.
pub(crate) fn exchanges(
    path: &Path,
    mut tell: impl FnMut(&Exchange),
) -> Result<(), Box<dyn Error>> {
    let mut conversations: HashMap<SessionId, Conversation> = HashMap::new();
    follow(path, |event| match event.kind {
        EventKind::Data { direction, payload } => {
            let conversation = conversations.entry(event.session).or_default();
            conversation.take(event, direction, payload, &mut tell);
        }
        EventKind::Lost { direction, octets, .. } => {
            if let Some(conversation) = conversations.get_mut(&event.session) {
                conversation.lose(direction, octets);
            }
        }
        EventKind::End(_) => {
            let conversation = conversations.remove(&event.session).unwrap_or_default();
            conversation.waiting.iter().for_each(&mut tell);
        }
        _ => {}
    })
}

/// One connection.
#[derive(Default)]
struct Conversation {
    /// Which way requests go: known with the first octets.
    asks: Option<Direction>,
    requests: Messages,
    answers: Messages,
    /// The requests without an answer, the oldest first.
    waiting: VecDeque<Exchange>,
}

impl Conversation {
    fn take(
        &mut self,
        event: &Event<'_>,
        direction: Direction,
        payload: &[u8],
        tell: &mut impl FnMut(&Exchange),
    ) {
        // One that is joined in its middle may begin with an answer.
        let first = if payload.starts_with(b"HTTP/") { direction.other() } else { direction };
        let asks = *self.asks.get_or_insert(first);
        let Self { requests, answers, waiting, .. } = self;
        if direction == asks {
            let key = if asks == Direction::Forward { event.key } else { event.key.reversed() };
            requests.take(payload, |head| {
                let (request, body) = request(head, key, event.time)?;
                if waiting.len() >= MOST_WAITING {
                    return None;
                }
                waiting.push_back(request);
                Some(body)
            });
        } else {
            answers.take(payload, |head| {
                let (status, body) = answer(head, waiting.front())?;
                // An interim one (100 to 199) is followed by the one that counts; 101 by another protocol.
                if ((200..).contains(&status) || status == 101)
                    && let Some(mut exchange) = waiting.pop_front()
                {
                    let took = event.time.0.saturating_sub(exchange.time.0);
                    exchange.answer = Some((status, took));
                    tell(&exchange);
                }
                Some(body)
            });
        }
    }

    fn lose(&mut self, direction: Direction, octets: u64) {
        match self.asks {
            Some(asks) if asks == direction => self.requests.lose(octets),
            Some(_) => self.answers.lose(octets),
            None => {}
        }
    }
}

/// What follows a head, or comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    /// The next head.
    #[default]
    None,
    /// So many octets.
    Octets(u64),
    /// A chunk's size, and so many octets, and so on (RFC 9112 section 7.1).
    Chunks,
    /// Trailers behind the last chunk.
    Trailers,
    /// All that still comes: another protocol, or what cannot be read.
    Everything,
}

/// The messages of one direction.
#[derive(Default)]
struct Messages {
    next: Body,
    /// Octets in front of it that are of no interest: those of a chunk or a body.
    skip: u64,
    /// The beginning of what comes next.
    begun: Vec<u8>,
}

impl Messages {
    /// Takes the next octets; `head` is asked what follows each head, and says nothing if it is none.
    fn take(&mut self, mut payload: &[u8], mut head: impl FnMut(&[u8]) -> Option<Body>) {
        while !payload.is_empty() && self.next != Body::Everything {
            if self.skip > 0 {
                let octets = payload.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= octets as u64;
                payload = &payload[octets..];
                continue;
            }
            // All that is read here ends with a line.
            let line = payload.iter().position(|octet| *octet == b'\n').map(|at| at + 1);
            let (these, rest) = payload.split_at(line.unwrap_or(payload.len()));
            payload = rest;
            self.begun.extend_from_slice(these);
            if self.begun.len() > LONGEST_HEAD {
                self.give_up();
            } else if line.is_some() {
                self.line(&mut head);
            }
        }
    }

    /// A line is all there.
    fn line(&mut self, head: &mut impl FnMut(&[u8]) -> Option<Body>) {
        let blank = self.begun.ends_with(b"\n\n") || self.begun.ends_with(b"\n\r\n");
        let alone = matches!(&self.begun[..], b"\n" | b"\r\n");
        match self.next {
            // Lines in front of a message are not one (RFC 9112 section 2.2); behind a chunk there is one.
            Body::None | Body::Chunks if alone => self.begun.clear(),
            Body::None if blank => match head(&self.begun) {
                Some(Body::Octets(octets)) => {
                    self.begun.clear();
                    self.skip = octets;
                }
                Some(body) => {
                    self.begun.clear();
                    self.next = body;
                }
                None => self.give_up(),
            },
            Body::Chunks => match httparse::parse_chunk_size(&self.begun) {
                Ok(httparse::Status::Complete((_, size))) => {
                    self.begun.clear();
                    self.skip = size;
                    self.next = if size == 0 { Body::Trailers } else { Body::Chunks };
                }
                _ => self.give_up(),
            },
            Body::Trailers if alone => {
                self.begun.clear();
                self.next = Body::None;
            }
            Body::Trailers => self.begun.clear(),
            _ => {}
        }
    }

    /// So many octets are not in the capture. What is skipped anyhow is not missed.
    fn lose(&mut self, octets: u64) {
        match self.skip.checked_sub(octets) {
            Some(left) => self.skip = left,
            None => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        self.begun = Vec::new();
        self.next = Body::Everything;
    }
}

/// Reads the head of a request; also what follows it.
fn request(head: &[u8], key: FlowKey, time: Timestamp) -> Option<(Exchange, Body)> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?.is_complete().then_some(())?;
    let (method, target) = (request.method?, request.path?);
    let host = header(request.headers, "host").map(harmless);
    let exchange = Exchange {
        key,
        time,
        method: harmless(method.as_bytes()),
        host,
        target: harmless(target.as_bytes()),
        answer: None,
    };
    // After CONNECT another protocol is spoken; the answer says whether.
    let body = framed(request.headers)?.unwrap_or(Body::None);
    Some((exchange, body))
}

/// Reads the head of an answer to this request: its status, and what follows (RFC 9112 section 6.3).
fn answer(head: &[u8], to: Option<&Exchange>) -> Option<(u16, Body)> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    answer.parse(head).ok()?.is_complete().then_some(())?;
    let status = answer.code?;
    let method = to.map_or("", |exchange| &exchange.method);
    let body = match status {
        101 => Body::Everything,
        200..300 if method == "CONNECT" => Body::Everything,
        100..200 | 204 | 304 => Body::None,
        _ if method == "HEAD" => Body::None,
        _ => framed(answer.headers)?.unwrap_or(Body::Everything),
    };
    Some((status, body))
}

/// What headers say of the body, if anything; nothing at all if that cannot be.
fn framed(headers: &[httparse::Header<'_>]) -> Option<Option<Body>> {
    if let Some(coding) = header(headers, "transfer-encoding") {
        let chunked = coding.to_ascii_lowercase().ends_with(b"chunked");
        return Some(Some(if chunked { Body::Chunks } else { Body::Everything }));
    }
    header(headers, "content-length")
        .map(|length| str::from_utf8(length).ok()?.trim().parse().ok().map(Body::Octets))
        .map_or(Some(None), |body| body.map(Some))
}

fn header<'h>(headers: &[httparse::Header<'h>], name: &str) -> Option<&'h [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

#[allow(dead_code, reason = "tests compile this file as a module")]
fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: http CAPTURE");
        return ExitCode::from(2);
    };
    let told = exchanges(Path::new(&path), |exchange| {
        let Exchange { key, time, method, host, target, answer } = exchange;
        let host = host.as_deref().unwrap_or("-");
        let answer = match answer {
            Some((status, nanos)) => format!("{status} after {:.3} ms", *nanos as f64 / 1e6),
            None => "no answer".to_owned(),
        };
        let (client, server, time) = (key.source, key.destination, time.rfc3339_micros());
        println!("{time} {client} > {server} {method} {host} {target}: {answer}");
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {}: {error}", Path::new(&path).display());
            ExitCode::FAILURE
        }
    }
}
