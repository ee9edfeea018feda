//! Where rows go: files, under their names only when they are whole, or standard output.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use procflow_binding::{Attribution, Join};
use procflow_core::Timestamp;
use procflow_core::features::{Column, Needs};
use procflow_core::flow::{Make, Record};
use procflow_core::rows::{self, Rows};
use procflow_nfdump::UserName;

use crate::error::SinkError;
use crate::files::Files;
use crate::nfcapd;
use crate::parquet::Cells;
use crate::processes::holders;
use crate::rotation::Rotation;
use crate::text::Text;
use crate::user_name::{Miss, Template, name};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text(rows::Format),
    Parquet,
    Nfcapd,
}

impl Format {
    /// The format of a file, by its name.
    fn of(path: &Path) -> Result<Self, SinkError> {
        // nfcapd's own files have it in front.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("nfcapd.") {
            return Ok(Self::Nfcapd);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Text(rows::Format::Csv)),
            Some("jsonl") => Ok(Self::Text(rows::Format::JsonLines)),
            Some("parquet") => Ok(Self::Parquet),
            Some("nfcapd") => Ok(Self::Nfcapd),
            _ => Err(SinkError::NoFormat(path.to_owned())),
        }
    }
}

/// Makes rows of records.
pub struct AsRows<'a> {
    columns: Vec<Column>,
    /// None if nobody wants them.
    format: Option<Format>,
    /// Who says which process it was, if somebody does.
    join: Option<Join<'a>>,
    naming: Naming,
}

/// How processes are written into the user names of nfcapd files.
#[derive(Clone, Debug)]
struct Naming {
    template: Template,
    miss: Miss,
}

/// Rows, as text, as values or as flows: one of these.
#[derive(Debug, Default)]
pub struct Made {
    pub(crate) text: Rows,
    pub(crate) cells: Cells,
    pub(crate) flows: nfcapd::Flows,
    /// When the flow of each ended.
    pub(crate) ended: Vec<Timestamp>,
    /// At which of them somebody is known, at least at one end.
    known: Vec<bool>,
}

impl AsRows<'_> {
    /// Adds the row of a record; `who` was at its ends, if anybody was asked.
    pub fn add(&self, record: &mut Record, who: Option<&Attribution>, made: &mut Made) {
        made.known.push(who.is_some_and(is_known));
        match self.format {
            Some(Format::Nfcapd) => {
                let mut user_name = UserName::new();
                let Naming { template, miss } = &self.naming;
                if let Some(text) = who.and_then(|who| name(who, template, *miss)) {
                    user_name.set(&text);
                }
                made.flows.push((nfcapd::flow(record), user_name));
            }
            Some(Format::Text(format)) => {
                record.holders = who.map(holders);
                made.text.add(format, &self.columns, record);
            }
            Some(Format::Parquet) => {
                record.holders = who.map(holders);
                made.cells.add(&self.columns, record);
            }
            None => {}
        }
        made.ended.push(record.ended);
    }
}

/// Whether a process is known at one end at least.
fn is_known(who: &Attribution) -> bool {
    [&who.source, &who.destination].iter().any(|end| end.answer() == "known")
}

impl Make for AsRows<'_> {
    type Made = Made;

    fn make(&self, record: &mut Record, made: &mut Made) {
        let who = self.join.as_ref().map(|join| {
            let flow = &record.flow;
            join.attribute(&flow.flow_key(), flow.interval())
        });
        self.add(record, who.as_ref(), made);
    }
}

/// Takes rows and writes them.
pub struct Output {
    columns: Vec<Column>,
    format: Format,
    number: u64,
    /// So many rows are taken at most.
    most: u64,
    /// So many rows of flows with a known process.
    known: u64,
    naming: Naming,
    sink: Sink,
    /// Why writing failed; nothing more is written then.
    failed: Option<SinkError>,
}

enum Sink {
    Nowhere,
    Stdout(Text<io::Stdout>),
    Files(Box<Files>),
}

impl Output {
    /// Rows of these columns (nfcapd files have columns of their own); without a path they are made and go
    /// nowhere.
    ///
    /// # Errors
    /// When the name of the file says no format, or it cannot be written.
    pub fn begin(
        columns: Vec<Column>,
        path: Option<&Path>,
        rotation: Option<Rotation>,
    ) -> Result<Self, SinkError> {
        let csv = rows::Format::Csv;
        let (sink, format) = match path {
            None => (Sink::Nowhere, Format::Text(csv)),
            Some(path) if path == Path::new("-") => {
                if rotation.is_some() {
                    return Err(SinkError::NothingToRotate);
                }
                let text = Text::begin(csv, &columns, io::stdout());
                (Sink::Stdout(text), Format::Text(csv))
            }
            Some(path) => {
                let format = Format::of(path)?;
                let files = Files::begin(path.to_owned(), format, columns.clone(), rotation)?;
                (Sink::Files(Box::new(files)), format)
            }
        };
        let naming = Naming { template: Template::default(), miss: Miss::Nothing };
        let most = u64::MAX;
        Ok(Self { columns, format, number: 0, most, known: 0, naming, sink, failed: None })
    }

    /// Whether the name of a file says in which format it is to be.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(path: &Path) -> Result<(), SinkError> {
        Format::of(path).map(drop)
    }

    /// Writes processes like this into the user names of an nfcapd file.
    pub fn name_by(&mut self, template: Template, miss: Miss) {
        self.naming = Naming { template, miss };
    }

    /// Takes so many rows at most.
    pub fn stop_after(&mut self, most: u64) {
        self.most = most;
    }

    /// What is to be measured of flows for its rows.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self.format {
            Format::Nfcapd => nfcapd::NEEDS,
            Format::Text(_) | Format::Parquet => Column::all_need(&self.columns),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows_taken(&self) -> u64 {
        self.number
    }

    /// How many of them are of flows with a known process at one end at least.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Writes each row when it is there: somebody waits for it. A Parquet file is not to be read before it
    /// is whole all the same.
    pub fn write_at_once(&mut self) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Stdout(text) => text.write_at_once(),
            Sink::Files(files) => files.write_at_once(),
        }
    }

    /// What makes the rows, with the processes that this join names.
    #[must_use]
    pub fn rows<'a>(&self, join: Option<Join<'a>>) -> AsRows<'a> {
        let format = Some(self.format).filter(|_| !matches!(self.sink, Sink::Nowhere));
        let naming = self.naming.clone();
        AsRows { columns: self.columns.clone(), format, join, naming }
    }

    /// Adds one of the rows. It is over when nobody reads them, or there are enough, or they cannot be
    /// written; why is told at the end.
    pub fn take(&mut self, made: &Made, index: usize) -> ControlFlow<()> {
        if self.number >= self.most {
            return ControlFlow::Break(());
        }
        if self.failed.is_none() {
            let added = match &mut self.sink {
                Sink::Nowhere => Ok(()),
                Sink::Stdout(text) => {
                    text.add(&made.text, index, self.number).map_err(SinkError::Stdout)
                }
                Sink::Files(files) => files.add(made, index, self.number),
            };
            self.failed = added.err();
        }
        self.number += 1;
        self.known += u64::from(made.known.get(index) == Some(&true));
        self.go_on()
    }

    /// No row comes that ended before this moment.
    pub fn until(&mut self, moment: Timestamp) -> ControlFlow<()> {
        if self.failed.is_none()
            && let Sink::Files(files) = &mut self.sink
        {
            self.failed = files.until(moment).err();
        }
        self.go_on()
    }

    fn go_on(&self) -> ControlFlow<()> {
        let over = self.failed.is_some() || self.number >= self.most;
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Writes what is left, and gives a file its name.
    ///
    /// # Errors
    /// Why it, or what came before, cannot be written. Without that, no file has its name.
    pub fn finish(self) -> Result<(), SinkError> {
        let done = match (self.failed, self.sink) {
            (Some(error), _) => Err(error),
            (None, Sink::Nowhere) => Ok(()),
            (None, Sink::Stdout(text)) => text.finish().map(drop).map_err(SinkError::Stdout),
            (None, Sink::Files(files)) => files.finish(),
        };
        match done {
            // Whoever reads has enough.
            Err(SinkError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }
}
