//! The report: every flow with its answer, for machines. JSON lines, or CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use procflow_binding::{Answer, Attribution, Who};
use procflow_core::FlowKey;
use procflow_nfdump::Flow;
use serde::Serialize;

/// A report being written.
pub(crate) struct Report {
    path: PathBuf,
    sink: Sink,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
    /// Whether it was said.
    broken: bool,
}

enum Sink {
    Lines(BufWriter<Box<dyn Write + Send>>),
    Csv(Box<csv::Writer<Box<dyn Write + Send>>>),
}

/// A flow with its answer, as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    first_ms: u64,
    last_ms: u64,
    protocol: u8,
    source: String,
    destination: String,
    packets: u64,
    octets: u64,
    name: Option<&'a str>,
    source_owner: Answer,
    destination_owner: Answer,
}

/// The columns of the CSV form: fewer, because a cell holds one value.
const COLUMNS: [&str; 17] = [
    "file",
    "first_ms",
    "last_ms",
    "protocol",
    "source",
    "destination",
    "packets",
    "octets",
    "name",
    "source_answer",
    "source_why",
    "source_pids",
    "source_comms",
    "destination_answer",
    "destination_why",
    "destination_pids",
    "destination_comms",
];

impl Report {
    /// Begins a report; what was there is replaced.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let inner: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path)?)
        };
        let sink = if path.extension().is_some_and(|extension| extension == "csv") {
            let mut writer = csv::Writer::from_writer(inner);
            writer.write_record(COLUMNS)?;
            Sink::Csv(Box::new(writer))
        } else {
            Sink::Lines(BufWriter::new(inner))
        };
        Ok(Self { path: path.to_owned(), sink, failed: None, broken: false })
    }

    /// Adds a flow.
    pub(crate) fn add(
        &mut self,
        file: &str,
        flow: &Flow<'_>,
        key: &FlowKey,
        attribution: &Attribution,
        name: Option<&str>,
    ) {
        if self.failed.is_some() || self.broken {
            return;
        }
        let line = Line {
            file,
            first_ms: flow.first_ms,
            last_ms: flow.last_ms,
            protocol: flow.protocol,
            source: key.source.to_string(),
            destination: key.destination.to_string(),
            packets: flow.packets,
            octets: flow.bytes,
            name,
            source_owner: Answer::from(&attribution.source),
            destination_owner: Answer::from(&attribution.destination),
        };
        let written = match &mut self.sink {
            Sink::Lines(writer) => serde_json::to_writer(&mut *writer, &line)
                .map_err(io::Error::from)
                .and_then(|()| writer.write_all(b"\n")),
            Sink::Csv(writer) => writer.write_record(line.cells()).map_err(io::Error::from),
        };
        self.failed = written.err();
    }

    /// Makes sure that everything is written, or says what went wrong.
    pub(crate) fn flush(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let flushed = match self.failed.take() {
            Some(error) => Err(error),
            None => match &mut self.sink {
                Sink::Lines(writer) => writer.flush(),
                Sink::Csv(writer) => writer.flush(),
            },
        };
        self.broken |= flushed.is_err();
        flushed.map_err(|error| (self.path.clone(), error))
    }
}

impl Line<'_> {
    fn cells(self) -> [String; 17] {
        let text = |value: &dyn ToString| value.to_string();
        let [source, destination] = [self.source_owner, self.destination_owner].map(|end| {
            let all = |field: &dyn Fn(&Who) -> String| {
                end.processes.iter().map(field).collect::<Vec<_>>().join("|")
            };
            let (pids, comms) = (all(&|who| who.pid.to_string()), all(&|who| who.comm.to_string()));
            [end.answer.to_owned(), end.why, pids, comms]
        });
        let [a, b, c, d] = source;
        let [e, f, g, h] = destination;
        [
            self.file.to_owned(),
            text(&self.first_ms),
            text(&self.last_ms),
            text(&self.protocol),
            self.source,
            self.destination,
            text(&self.packets),
            text(&self.octets),
            self.name.unwrap_or_default().to_owned(),
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ]
    }
}
