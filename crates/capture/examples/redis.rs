//! Prints the Redis commands of a capture file with their answers: who sent what to whom, what came back,
//! and after how long.
//!
//!     cargo run -p procflow-capture --example redis -- capture.pcap
//!
//! A worked example of following a protocol over sessions: RESP, versions 2 and 3 (redis.io, "Redis
//! serialization protocol specification"), is read octet by octet as it comes, so that nothing is held
//! but the text of one value, clipped, and the commands that wait. Commands are arrays of strings; those typed
//! by hand ("inline") are not recognised.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use procflow_core::flow::Direction;
use procflow_core::session::{EventKind, SessionId};
use procflow_core::{FlowKey, Timestamp};

mod connections;

use connections::{follow, harmless};

/// So many arrays may be in one another.
const DEPTH: usize = 16;
/// A line is not longer.
const LONGEST_LINE: usize = 4096;
/// So many octets of a value's text are kept.
const CLIPPED: usize = 1024;
/// So many commands wait for their answers at most.
const MOST_WAITING: usize = 4096;

/// A command, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The client is the source.
    pub(crate) key: FlowKey,
    /// When the command was all there.
    pub(crate) time: Timestamp,
    /// Its words.
    pub(crate) command: String,
    /// The answer, and how long after the command it was all there, in nanoseconds.
    pub(crate) answer: Option<(String, i64)>,
}

/// Tells all commands of a capture file: each when it is answered, or when its connection is over.
pub(crate) fn exchanges(
    path: &Path,
    mut tell: impl FnMut(&Exchange),
) -> Result<(), Box<dyn Error>> {
    let mut conversations: HashMap<SessionId, Conversation> = HashMap::new();
    follow(path, |event| match event.kind {
        EventKind::Data { direction, payload } => {
            let conversation = conversations.entry(event.session).or_default();
            // The client speaks first.
            let asks = *conversation.asks.get_or_insert(direction);
            let Conversation { commands, answers, waiting, .. } = conversation;
            let time = event.time;
            if direction == asks {
                let key = if asks == Direction::Forward { event.key } else { event.key.reversed() };
                commands.take(payload, |kind, command| {
                    let is_command = kind == b'*' && waiting.len() < MOST_WAITING;
                    waiting.extend(is_command.then_some(Exchange {
                        key,
                        time,
                        command,
                        answer: None,
                    }));
                    is_command
                });
            } else {
                answers.take(payload, |kind, answer| {
                    // What is pushed ('>') answers nothing.
                    if kind != b'>'
                        && let Some(mut exchange) = waiting.pop_front()
                    {
                        exchange.answer = Some((answer, time.0.saturating_sub(exchange.time.0)));
                        tell(&exchange);
                    }
                    true
                });
            }
        }
        EventKind::Lost { direction, octets, .. } => {
            if let Some(conversation) = conversations.get_mut(&event.session) {
                let asks = conversation.asks == Some(direction);
                let Conversation { commands, answers, .. } = conversation;
                if asks { commands.lose(octets) } else { answers.lose(octets) }
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
    asks: Option<Direction>,
    commands: Values,
    answers: Values,
    /// The commands without an answer, the oldest first.
    waiting: VecDeque<Exchange>,
}

/// The values of one direction.
#[derive(Default)]
struct Values {
    /// This direction is not RESP, or not any more.
    given_up: bool,
    /// The line that has begun.
    line: Vec<u8>,
    /// Octets of a string that still come, with the end of its line.
    string: u64,
    /// The first octet of the value.
    kind: Option<u8>,
    /// So many values are still to come in each array around, from the outside in.
    open: Vec<u64>,
    /// What was read of the value.
    text: Vec<u8>,
}

impl Values {
    /// Takes the next octets; `tell` is handed each value that is all there, with what it begins with,
    /// and says whether it can be.
    fn take(&mut self, mut payload: &[u8], mut tell: impl FnMut(u8, String) -> bool) {
        while !payload.is_empty() && !self.given_up {
            if self.string > 0 {
                let octets = payload.len().min(usize::try_from(self.string).unwrap_or(usize::MAX));
                let (these, rest) = payload.split_at(octets);
                // The last two end its line.
                let shown = usize::try_from(self.string.saturating_sub(2)).unwrap_or(usize::MAX);
                self.show(&these[..octets.min(shown)]);
                self.string -= octets as u64;
                payload = rest;
                if self.string == 0 {
                    self.one_more(&mut tell);
                }
                continue;
            }
            let line = payload.iter().position(|octet| *octet == b'\n').map(|at| at + 1);
            let (these, rest) = payload.split_at(line.unwrap_or(payload.len()));
            payload = rest;
            self.line.extend_from_slice(these);
            if self.line.len() > LONGEST_LINE {
                self.give_up();
            } else if line.is_some() {
                let line = std::mem::take(&mut self.line);
                if self.read(&line, &mut tell).is_none() {
                    self.give_up();
                }
            }
        }
    }

    /// Reads a line; nothing if it cannot be one.
    fn read(&mut self, line: &[u8], tell: &mut impl FnMut(u8, String) -> bool) -> Option<()> {
        let (&kind, rest) = line.strip_suffix(b"\r\n")?.split_first()?;
        let number = || str::from_utf8(rest).ok()?.parse::<i64>().ok();
        let first = self.kind.is_none();
        self.kind.get_or_insert(kind);
        // A space between two; not behind the bracket of an array.
        if !first && !matches!(self.text.last(), None | Some(b'[')) {
            self.show(b" ");
        }
        match kind {
            // Simple: a string, an error, a number, nothing, yes or no.
            b'+' | b'_' | b',' | b'(' | b'#' => {
                self.show(if kind == b'_' { b"nil" } else { rest });
                self.one_more(tell);
            }
            b'-' => {
                self.show(b"-");
                self.show(rest);
                self.one_more(tell);
            }
            b':' => {
                self.show(number()?.to_string().as_bytes());
                self.one_more(tell);
            }
            // Strings, errors, text with its format.
            b'$' | b'!' | b'=' => match number()? {
                -1 => {
                    self.show(b"nil");
                    self.one_more(tell);
                }
                length => self.string = u64::try_from(length).ok()?.checked_add(2)?,
            },
            // Arrays, sets, what is pushed; maps and attributes have two values for each.
            b'*' | b'~' | b'>' | b'%' | b'|' => match number()? {
                -1 => {
                    self.show(b"nil");
                    self.one_more(tell);
                }
                0 => {
                    self.show(b"[]");
                    self.one_more(tell);
                }
                _ if self.open.len() >= DEPTH => return None,
                length => {
                    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                    self.open.push(u64::try_from(length).ok()?.checked_mul(each)?);
                    self.show(b"[");
                }
            },
            _ => return None,
        }
        Some(())
    }

    /// A value that is no array is all there, and with it all arrays whose last one it is.
    fn one_more(&mut self, tell: &mut impl FnMut(u8, String) -> bool) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
            self.show(b"]");
        }
        let text = std::mem::take(&mut self.text);
        let kind = self.kind.take().unwrap_or_default();
        if !tell(kind, harmless(&text)) {
            self.give_up();
        }
    }

    fn show(&mut self, octets: &[u8]) {
        let room = CLIPPED.saturating_sub(self.text.len());
        self.text.extend_from_slice(octets.get(..room).unwrap_or(octets));
    }

    /// So many octets are not in the capture: within a string they are not missed.
    fn lose(&mut self, octets: u64) {
        match self.string.checked_sub(octets) {
            Some(left) if left > 0 => {
                self.show("…".as_bytes());
                self.string = left;
            }
            _ => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        *self = Self { given_up: true, ..Self::default() };
    }
}

#[allow(dead_code, reason = "tests compile this file as a module")]
fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: redis CAPTURE");
        return ExitCode::from(2);
    };
    let told = exchanges(Path::new(&path), |exchange| {
        let Exchange { key, time, command, answer } = exchange;
        let answer = match answer {
            Some((answer, nanos)) => format!("{answer} after {:.3} ms", *nanos as f64 / 1e6),
            None => "no answer".to_owned(),
        };
        let (client, server, time) = (key.source, key.destination, time.rfc3339_micros());
        println!("{time} {client} > {server} {command}: {answer}");
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis: {}: {error}", Path::new(&path).display());
            ExitCode::FAILURE
        }
    }
}
