//! `extractor sessions`: what happens in TCP connections, event by event, and the sums of each at its end.

use std::cell::RefCell;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use procflow_capture::Statistics;
use procflow_core::flow::{Direction, Handshake};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::session::{Event, EventKind, Settings, Side, Summary, Tally, follow};
use serde_json::{Value, json};

use crate::args::SessionsArgs;
use crate::failure::Failure;
use crate::report::{Lines, captured_in_json, undecoded_in_json};
use crate::source::Source;
use crate::stop::Stop;

pub(crate) fn run(args: &SessionsArgs) -> Result<ExitCode, Failure> {
    let stop = Stop::listen()?;
    let mut source = Source::open(&args.source, &stop)?;
    let live = match &source {
        Source::Live(live) => Some(live.names()),
        Source::Files(_) => None,
    };
    if let Some(names) = live.as_ref().filter(|_| !args.quiet) {
        eprintln!("extractor: capturing {names}");
    }
    let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let settings =
        Settings { idle: nanos(args.idle_timeout), capacity: args.capacity, ..Settings::default() };
    let printer = RefCell::new(Printer::new(args));
    let next = |batch: &mut Batch| {
        if live.is_some() {
            // Somebody waits for what the batch before has brought.
            printer.borrow_mut().flush();
        }
        if printer.borrow().failed.is_some() {
            stop.want();
        }
        source.next(batch, &stop)
    };
    let decoder = Decoder { tunnels: !args.no_tunnels };
    let tally = follow(decoder, settings, next, |event| printer.borrow_mut().print(event));
    let (filtered, captured, failed) = source.finish();
    printer.into_inner().finish()?;
    if captured.is_none()
        && let Some(signal) = stop.signal()
    {
        return Ok(ExitCode::from(128 + signal));
    }
    if !args.quiet {
        if args.json {
            eprintln!("{}", report_in_json(&tally, filtered, captured));
        } else {
            eprintln!("extractor: {}", report_in_text(&tally, filtered, captured));
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn report_in_text(tally: &Tally, filtered: u64, captured: Option<Statistics>) -> String {
    let Tally { frames, sessions, .. } = tally;
    let (packets, begun) = (sessions.packets, sessions.sessions);
    let mut text = format!("{frames} frames, {packets} packets in {begun} sessions");
    let mut lines = Lines(&mut text);
    lines.of_frames(captured, filtered, &tally.undecoded);
    lines.also(tally.others, "packets were of other protocols than TCP");
    lines.also(tally.fragments, "fragments were not put together; their octets count as not seen");
    lines.of_parts(tally.truncated);
    lines.also(sessions.evicted, "sessions ended because more than --capacity went on at once");
    lines.also(sessions.hurried, "times octets could not wait longer for those in front of them");
    lines.of_times(tally.clock_jumps, tally.wild_times);
    if !tally.is_conserved() {
        text.push_str("\n  NOT ALL FRAMES ARE ACCOUNTED FOR; please report this");
    }
    text
}

fn report_in_json(tally: &Tally, filtered: u64, captured: Option<Statistics>) -> Value {
    json!({
        "interfaces": captured_in_json(captured),
        "filtered": filtered,
        "frames": tally.frames,
        "packets": tally.sessions.packets,
        "undecoded": undecoded_in_json(&tally.undecoded),
        "others": tally.others,
        "fragments": tally.fragments,
        "conserved": tally.is_conserved(),
        "sessions": tally.sessions.sessions,
        "most_sessions_at_once": tally.sessions.most,
        "evicted": tally.sessions.evicted,
        "hurried": tally.sessions.hurried,
        "truncated": tally.truncated,
        "clock_jumps": tally.clock_jumps,
        "wild_times": tally.wild_times,
    })
}

/// Prints events, each a line; the end of a session has some more.
struct Printer<'a> {
    args: &'a SessionsArgs,
    output: BufWriter<StdoutLock<'static>>,
    /// Why printing failed; nothing more is printed then.
    failed: Option<io::Error>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a SessionsArgs) -> Self {
        let output = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        Self { args, output, failed: None }
    }

    fn print(&mut self, event: &Event<'_>) {
        let unwanted = matches!(event.kind, EventKind::RoundTrip { .. }) && !self.args.round_trips;
        if self.failed.is_some() || unwanted {
            return;
        }
        let printed = if self.args.json {
            writeln!(self.output, "{}", in_json(event, self.args.data))
        } else {
            in_text(&mut self.output, event, self.args.data)
        };
        self.failed = printed.err();
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.output.flush().err();
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        // What could not be written is not tried again.
        let _ = self.output.into_parts();
        match self.failed {
            // Whoever reads may have enough.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
            _ => Ok(()),
        }
    }
}

/// Which way an event went, if it has a way.
fn direction(kind: &EventKind<'_>) -> Option<Direction> {
    match *kind {
        EventKind::SynRetry { by } | EventKind::Reset { by } => Some(by),
        EventKind::Data { direction, .. }
        | EventKind::Lost { direction, .. }
        | EventKind::Retransmission { direction, .. }
        | EventKind::Conflict { direction, .. }
        | EventKind::RoundTrip { direction, .. } => Some(direction),
        EventKind::Start { .. } | EventKind::End(_) => None,
    }
}

fn in_text(output: &mut impl Write, event: &Event<'_>, data: bool) -> io::Result<()> {
    let way = match direction(&event.kind) {
        Some(Direction::Forward) => ">",
        Some(Direction::Reverse) => "<",
        None => "-",
    };
    let (time, number) = (event.time.rfc3339_micros(), event.session.0);
    let (source, destination) = (event.key.source, event.key.destination);
    write!(output, "{time} {number} {source} {way} {destination} ")?;
    match event.kind {
        EventKind::SynRetry { .. } => writeln!(output, "syn-retry"),
        EventKind::Start { opening } => writeln!(output, "start, handshake {}", opening.name()),
        EventKind::Data { payload, .. } if data => {
            writeln!(output, "data {} \"{}\"", payload.len(), payload.escape_ascii())
        }
        EventKind::Data { payload, .. } => writeln!(output, "data {}", payload.len()),
        EventKind::Lost { octets, why, .. } => writeln!(output, "lost {octets} {}", why.name()),
        EventKind::Retransmission { octets, .. } => writeln!(output, "retransmission {octets}"),
        EventKind::Conflict { octets, .. } => writeln!(output, "conflict {octets}"),
        EventKind::RoundTrip { nanoseconds, .. } => {
            writeln!(output, "round-trip {}", millis(nanoseconds as f64))
        }
        EventKind::Reset { .. } => writeln!(output, "reset"),
        EventKind::End(summary) => end_in_text(output, summary),
    }
}

/// Nanoseconds as milliseconds.
fn millis(nanoseconds: f64) -> String {
    format!("{:.3} ms", nanoseconds / 1e6)
}

fn end_in_text(output: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let took = millis(summary.duration() as f64);
    writeln!(output, "end, {}, {}, {took}", summary.style.name(), summary.reason.name())?;
    let handshake = &summary.handshake;
    if let Some(whole) = handshake.round_trip() {
        let part = |part: Option<u64>| part.map_or_else(String::new, |part| millis(part as f64));
        let there = part(handshake.responder_round_trip());
        let back = part(handshake.initiator_round_trip());
        writeln!(output, "    handshake {}: {there} > {back} <", millis(whole as f64))?;
    }
    for (way, side) in [(">", &summary.sides.forward), ("<", &summary.sides.reverse)] {
        let Side { packets, header_octets, payload_octets, data_octets, .. } = side;
        write!(
            output,
            "    {way} {packets} packets, octets: {header_octets} headers, {payload_octets} payload, \
             {data_octets} data"
        )?;
        for (count, what) in [
            (side.not_seen_octets, "not seen"),
            (side.not_captured_octets, "not captured"),
            (side.retransmitted_octets, "sent again"),
            (side.conflicting_octets, "in conflict"),
        ] {
            if count > 0 {
                write!(output, ", {count} {what}")?;
            }
        }
        for (count, what) in [
            (side.syn_retries, "SYN retries"),
            (side.retransmissions, "retransmissions"),
            (side.ahead, "segments ahead"),
            (side.out_of_window, "out of window"),
        ] {
            if count > 0 {
                write!(output, "; {count} {what}")?;
            }
        }
        let trips = &side.round_trips;
        if let (Some(least), Some(mean), Some(most)) = (trips.least(), trips.mean(), trips.most()) {
            let [least, mean, most] = [least as f64, mean, most as f64].map(millis);
            write!(output, "; {} round trips: {least} / {mean} / {most}", trips.count())?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn in_json(event: &Event<'_>, data: bool) -> Value {
    let (name, about) = match event.kind {
        EventKind::SynRetry { .. } => ("syn-retry", json!({})),
        EventKind::Start { opening } => ("start", json!({ "handshake": opening.name() })),
        EventKind::Data { payload, .. } if data => (
            "data",
            json!({ "octets": payload.len(), "payload_base64": BASE64_STANDARD.encode(payload) }),
        ),
        EventKind::Data { payload, .. } => ("data", json!({ "octets": payload.len() })),
        EventKind::Lost { octets, why, .. } => {
            ("lost", json!({ "octets": octets, "why": why.name() }))
        }
        EventKind::Retransmission { octets, .. } => ("retransmission", json!({ "octets": octets })),
        EventKind::Conflict { octets, .. } => ("conflict", json!({ "octets": octets })),
        EventKind::RoundTrip { nanoseconds, .. } => ("round-trip", json!({ "ns": nanoseconds })),
        EventKind::Reset { .. } => ("reset", json!({})),
        EventKind::End(summary) => ("end", end_in_json(summary)),
    };
    let mut row = json!({
        "event": name,
        "time_ns": event.time.0,
        "session": event.session.0,
        "source_address": event.key.source.address(),
        "source_port": event.key.source.port(),
        "destination_address": event.key.destination.address(),
        "destination_port": event.key.destination.port(),
    });
    if let (Value::Object(row), Value::Object(about)) = (&mut row, about) {
        if let Some(direction) = direction(&event.kind) {
            let name = match direction {
                Direction::Forward => "forward",
                Direction::Reverse => "reverse",
            };
            row.insert("direction".to_owned(), name.into());
        }
        row.extend(about);
    }
    row
}

fn end_in_json(summary: &Summary) -> Value {
    let handshake: &Handshake = &summary.handshake;
    json!({
        "end_reason": summary.reason.name(),
        "close_style": summary.style.name(),
        "handshake": summary.opening.map(|opening| opening.name()),
        "first_seen_ns": summary.first.0,
        "last_seen_ns": summary.last.0,
        "closed_ns": summary.closed.map(|closed| closed.0),
        "duration_ns": summary.duration(),
        "handshake_rtt_ns": handshake.round_trip(),
        "responder_rtt_ns": handshake.responder_round_trip(),
        "initiator_rtt_ns": handshake.initiator_round_trip(),
        "forward": side_in_json(&summary.sides.forward),
        "reverse": side_in_json(&summary.sides.reverse),
    })
}

fn side_in_json(side: &Side) -> Value {
    json!({
        "packets": side.packets,
        "header_octets": side.header_octets,
        "payload_octets": side.payload_octets,
        "data_octets": side.data_octets,
        "not_seen_octets": side.not_seen_octets,
        "not_captured_octets": side.not_captured_octets,
        "syn_retries": side.syn_retries,
        "retransmissions": side.retransmissions,
        "retransmitted_octets": side.retransmitted_octets,
        "ahead": side.ahead,
        "conflicting_octets": side.conflicting_octets,
        "out_of_window": side.out_of_window,
        "round_trips": side.round_trips.count(),
        "min_rtt_ns": side.round_trips.least(),
        "mean_rtt_ns": side.round_trips.mean(),
        "stddev_rtt_ns": side.round_trips.deviation(),
        "max_rtt_ns": side.round_trips.most(),
    })
}
