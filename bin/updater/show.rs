//! `updater show`: what is in nfcapd files, for people and for machines.
//!
//! A file is read once, from front to back, and printed as it goes, so memory does not grow with it.
//! Of a damaged one everything in front of the damage is shown, and then what is wrong.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use procflow_nfdump::{
    Compression, Error, Exporter, Header, Layout, Reader, Sampler, Stat, Sum, Tally, creator_name,
    extension_name,
};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::failure::Failure;
use crate::harmless;

/// How many user names are shown.
const NAMES: usize = 10;

/// Shows all files. The exit code says whether all could be read to their ends.
pub(crate) fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    for (i, path) in args.file.iter().enumerate() {
        let shown = File::open(path)
            .map_err(|error| (error.to_string(), None))
            .and_then(|file| {
                let reader = Reader::new(file);
                reader.map_err(|error| (error.to_string(), Some(error)))
            })
            .map(|reader| Shown::new(path, reader.unfinished()));
        let printed = match (shown, args.json) {
            (Ok(mut shown), false) => {
                let gap = if i == 0 { Ok(()) } else { writeln!(output) };
                gap.and_then(|()| shown.print(&mut output)).map(|()| shown.error_text())
            }
            (Ok(shown), true) => {
                let shown = RefCell::new(shown);
                print_json(&mut output, &InJson(&shown)).map(|()| shown.borrow().error_text())
            }
            (Err((text, error)), json) => {
                let file = path.to_string_lossy();
                let error = error.as_ref().map_or(json!({ "what": text }), of_error);
                let object = json!({ "file": file, "error": error });
                let printed = if json { print_json(&mut output, &object) } else { Ok(()) };
                printed.map(|()| Some(text))
            }
        };
        match printed.and_then(|error| output.flush().map(|()| error)) {
            Ok(None) => {}
            Ok(Some(error)) => {
                eprintln!("updater: {}: {error}", harmless::path(path));
                code = ExitCode::FAILURE;
            }
            // Whoever reads has had enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            Err(source) => {
                return Err(Failure::System { what: "cannot write to standard output", source });
            }
        }
    }
    Ok(code)
}

/// Prints a line of JSON.
pub(crate) fn print_json(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *output, harmless::Json))?;
    writeln!(output)
}

/// A file that is being shown.
struct Shown<'a> {
    path: &'a Path,
    header: Header,
    reader: Reader<File>,
    tally: Tally,
    error: Option<Error>,
}

/// Where a data block is, and how large.
struct Block {
    number: u32,
    offset: u64,
    records: u32,
    on_disk: usize,
    plain: usize,
}

impl<'a> Shown<'a> {
    fn new(path: &'a Path, reader: Reader<File>) -> Self {
        let header = reader.header().clone();
        let tally = Tally::new(header.layout());
        Self { path, header, reader, tally, error: None }
    }

    /// Walks all blocks, as far as they can be read; `each` is told each of them first.
    fn walk<E>(&mut self, mut each: impl FnMut(&Block) -> Result<(), E>) -> Result<(), E> {
        loop {
            let block = match self.reader.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.error = Some(error);
                    return Ok(());
                }
            };
            each(&Block {
                number: block.number(),
                offset: block.offset(),
                records: block.records(),
                on_disk: block.size_on_disk(),
                plain: block.size_plain(),
            })?;
            for record in block {
                match record {
                    Ok(record) => drop(self.tally.add(&record)),
                    Err(error) => {
                        self.error = Some(error);
                        return Ok(());
                    }
                }
            }
        }
    }

    fn error_text(&self) -> Option<String> {
        self.error.as_ref().map(Error::to_string)
    }

    fn print(&mut self, output: &mut impl Write) -> io::Result<()> {
        let header = &self.header;
        writeln!(output, "{}", harmless::path(self.path))?;
        let mut line = |what: &str, value: &dyn Display| writeln!(output, "{what:<12}{value}");
        line("layout", &layout(header))?;
        if let Some(version) = header.nfdump_version() {
            line("nfdump", &version_text(version))?;
        }
        if let Some(created) = header.created() {
            line("created", &moment(created.checked_mul(1000)))?;
        }
        if let Some(creator) = header.creator().filter(|&creator| creator != 0) {
            line(
                "creator",
                &creator_name(creator).map_or_else(|| creator.to_string(), str::to_owned),
            )?;
        }
        line("compression", &header.compression())?;
        if header.anonymised() {
            line("anonymised", &"yes")?;
        }
        if header.in_progress() {
            line("state", &"in progress: the header counts nothing yet")?;
        } else {
            line("blocks", &header.blocks())?;
            if header.layout() == Layout::Two {
                let (blocks, offset) = (header.appendix_blocks(), header.appendix_offset());
                line("appendix", &format_args!("{blocks} at offset {offset}"))?;
            }
        }
        writeln!(
            output,
            "\n{:>8} {:>12} {:>9} {:>9} {:>9}",
            "block", "offset", "records", "on disk", "plain"
        )?;
        self.walk(|block| {
            let Block { number, offset, records, on_disk, plain } = block;
            writeln!(output, "{number:>8} {offset:>12} {records:>9} {on_disk:>9} {plain:>9}")
        })?;
        writeln!(output)?;

        let Self { tally, reader, .. } = self;
        let mut line = |what: &str, value: &dyn Display| writeln!(output, "{what:<12}{value}");
        if let Some(ident) = reader.ident() {
            line("ident", &harmless::text(ident))?;
        }
        if let Some(stat) = reader.stat() {
            line(
                "stat record",
                &format_args!("{}, {} sequence failures", sum(&stat.all), stat.sequence_failures),
            )?;
            for (what, of) in kinds(stat) {
                line("", &format_args!("{what}: {}", sum(of)))?;
            }
            if stat.last_ms > 0 {
                line("", &span(stat))?;
            }
        }
        for (i, exporter) in tally.exporters().enumerate() {
            line(if i == 0 { "exporters" } else { "" }, &exporter_text(exporter))?;
        }
        for (i, sampler) in tally.samplers().enumerate() {
            let Sampler { exporter, id, algorithm, packets, space } = sampler;
            let text = format_args!(
                "{id} of exporter {exporter}: {packets} packets, then {space} not, algorithm {algorithm}"
            );
            line(if i == 0 { "samplers" } else { "" }, &text)?;
        }
        for (i, (record_type, count)) in tally.record_types().enumerate() {
            let name = record_type.name().unwrap_or("?");
            line(
                if i == 0 { "records" } else { "" },
                &format_args!("{count:>9} {name} ({})", record_type.0),
            )?;
        }
        for (i, (id, count)) in tally.extensions().enumerate() {
            let name = extension_name(self.header.layout(), id).unwrap_or("?");
            line(
                if i == 0 { "extensions" } else { "" },
                &format_args!("{count:>9} {name} ({id})"),
            )?;
        }
        let stat = tally.stat();
        line("flows", &format_args!("{}, in {} records", sum(&stat.all), tally.flow_records()))?;
        if stat.all.flows > 0 {
            line("", &span(stat))?;
        }
        line(
            "names",
            &format_args!("{} of {} flow records have one", tally.named(), tally.flow_records()),
        )?;
        let least = if tally.names_error() == 0 { "" } else { "at least " };
        for (name, count) in tally.names(NAMES) {
            line("", &format_args!("{least}{count:>9} {}", harmless::text(name)))?;
        }
        Ok(())
    }
}

fn layout(header: &Header) -> u8 {
    match header.layout() {
        Layout::One => 1,
        Layout::Two => 2,
    }
}

/// `1.7.1` out of `0x01070100`; the highest bits are set in builds of nfdump's repository.
fn version_text(version: u32) -> String {
    let [major, minor, patch, rest] = version.to_be_bytes();
    let mut text = format!("{}.{minor}.{patch}", major & 0x0f);
    if rest != 0 {
        text.push_str(&format!(".{rest}"));
    }
    if major & 0xf0 != 0 {
        text.push_str(" (from its repository)");
    }
    text
}

/// A moment as RFC 3339 in UTC; what no calendar has, as the number it is.
fn moment(ms: Option<i64>) -> String {
    match ms.map(jiff::Timestamp::from_millisecond) {
        Some(Ok(moment)) => moment.to_string(),
        _ => ms.map_or_else(|| "?".to_owned(), |ms| format!("{ms} ms")),
    }
}

fn unsigned(ms: u64) -> String {
    i64::try_from(ms).map_or_else(|_| format!("{ms} ms"), |ms| moment(Some(ms)))
}

fn span(stat: &Stat) -> String {
    format!("first {}, last {}", unsigned(stat.first_ms), unsigned(stat.last_ms))
}

fn sum(sum: &Sum) -> String {
    format!("{} flows, {} packets, {} bytes", sum.flows, sum.packets, sum.bytes)
}

fn kinds(stat: &Stat) -> [(&'static str, &Sum); 4] {
    [("tcp", &stat.tcp), ("udp", &stat.udp), ("icmp", &stat.icmp), ("other", &stat.other)]
}

fn exporter_text(exporter: &Exporter) -> String {
    let Exporter { sysid, version, address, id, stat } = exporter;
    let address = address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let mut text = format!("{sysid}: {address}, version {version}, id {id}");
    if let Some(stat) = stat {
        let (packets, flows, failures) = (stat.packets, stat.flows, stat.sequence_failures);
        text.push_str(&format!(
            "; {flows} flows in {packets} packets, {failures} sequence failures"
        ));
    }
    text
}

/// The file as an object, whose blocks are read while they are printed.
struct InJson<'a, 'b>(&'a RefCell<Shown<'b>>);

struct BlocksInJson<'a, 'b>(&'a RefCell<Shown<'b>>);

impl Serialize for InJson<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (path, header) = {
            let shown = self.0.borrow();
            (shown.path, shown.header.clone())
        };
        map.serialize_entry("file", &path.to_string_lossy())?;
        map.serialize_entry("header", &of_header(&header))?;
        map.serialize_entry("blocks", &BlocksInJson(self.0))?;
        let shown = self.0.borrow();
        let Shown { reader, tally, error, .. } = &*shown;
        map.serialize_entry("ident", &reader.ident().map(String::from_utf8_lossy))?;
        map.serialize_entry("stat_record", &reader.stat().map(of_stat))?;
        map.serialize_entry("exporters", &tally.exporters().map(of_exporter).collect::<Vec<_>>())?;
        map.serialize_entry("samplers", &tally.samplers().map(of_sampler).collect::<Vec<_>>())?;
        let records = tally.record_types().map(|(record_type, count)| {
            json!({ "type": record_type.0, "name": record_type.name(), "count": count })
        });
        map.serialize_entry("records", &records.collect::<Vec<_>>())?;
        let extensions = tally.extensions().map(|(id, count)| {
            json!({ "id": id, "name": extension_name(header.layout(), id), "count": count })
        });
        map.serialize_entry("extensions", &extensions.collect::<Vec<_>>())?;
        map.serialize_entry("flow_records", &tally.flow_records())?;
        map.serialize_entry("flows", &of_stat(tally.stat()))?;
        map.serialize_entry("named", &tally.named())?;
        let names = tally
            .names(NAMES)
            .into_iter()
            .map(|(name, count)| json!({ "name": String::from_utf8_lossy(name), "count": count }));
        map.serialize_entry("names", &names.collect::<Vec<_>>())?;
        map.serialize_entry("names_may_be_low_by", &tally.names_error())?;
        map.serialize_entry("error", &error.as_ref().map(of_error))?;
        map.end()
    }
}

impl Serialize for BlocksInJson<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.0.borrow_mut().walk(|block| {
            let Block { number, offset, records, on_disk, plain } = block;
            list.serialize_element(&json!({
                "number": number,
                "offset": offset,
                "records": records,
                "bytes_on_disk": on_disk,
                "bytes_plain": plain,
            }))
        })?;
        list.end()
    }
}

fn of_header(header: &Header) -> Value {
    json!({
        "layout": layout(header),
        "nfdump": header.nfdump_version().map(version_text),
        "created": header.created().map(|created| moment(created.checked_mul(1000))),
        "creator": header.creator().and_then(creator_name),
        "compression": match header.compression() {
            Compression::None => None,
            method => Some(method.to_string()),
        },
        "anonymised": header.anonymised(),
        "in_progress": header.in_progress(),
        "blocks": header.blocks(),
        "appendix_blocks": header.appendix_blocks(),
        "appendix_offset": header.appendix_offset(),
    })
}

/// Sums as JSON; times in unix milliseconds.
pub(crate) fn of_stat(stat: &Stat) -> Value {
    let of = |sum: &Sum| json!({ "flows": sum.flows, "packets": sum.packets, "bytes": sum.bytes });
    let mut object = of(&stat.all);
    for (what, sum) in kinds(stat) {
        object[what] = of(sum);
    }
    object["first_ms"] = stat.first_ms.into();
    object["last_ms"] = stat.last_ms.into();
    object["sequence_failures"] = stat.sequence_failures.into();
    object
}

fn of_exporter(exporter: &Exporter) -> Value {
    json!({
        "sysid": exporter.sysid,
        "version": exporter.version,
        "address": exporter.address.map(|address| address.to_string()),
        "id": exporter.id,
        "packets": exporter.stat.map(|stat| stat.packets),
        "flows": exporter.stat.map(|stat| stat.flows),
        "sequence_failures": exporter.stat.map(|stat| stat.sequence_failures),
    })
}

fn of_sampler(sampler: &Sampler) -> Value {
    json!({
        "exporter": sampler.exporter,
        "id": sampler.id,
        "algorithm": sampler.algorithm,
        "packets": sampler.packets,
        "space": sampler.space,
    })
}

/// An error with its place.
pub(crate) fn of_error(error: &Error) -> Value {
    json!({
        "offset": error.offset(),
        "block": error.block(),
        "record": error.record(),
        "what": error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_moments_are_written_as_people_do() {
        assert_eq!(version_text(0x0107_0100), "1.7.1");
        assert_eq!(version_text(0xf107_0800), "1.7.8 (from its repository)");
        assert_eq!(moment(Some(1_795_223_603_728)), "2026-11-21T01:13:23.728Z");
        assert_eq!(moment(Some(i64::MAX)), format!("{} ms", i64::MAX));
        assert_eq!(unsigned(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(moment(None), "?");
    }
}
