//! `extractor columns`: the dictionary, printed from the table that the values come from, and what columns
//! are called elsewhere.

use std::io::{self, Write};
use std::process::ExitCode;

use procflow_core::features::{Column, OtherName, Vocabulary};
use procflow_core::presets::{Preset, presets};
use serde_json::json;

use crate::args::ColumnsArgs;
use crate::failure::Failure;

/// What stands in front of the columns in docs/features.md.
const PAGE: &str = "\
# Columns

This page is printed by `extractor columns --markdown`, from the table that the values come from; a test
compares the two. Columns of several presets that mean the same come from the same measure.

* A value that cannot be said is empty in CSV and null in JSON, never 0, NaN or -1: a deviation of fewer
  than two values, a rate over no time.
* Lengths come from headers, never from what was captured. \"Sizes\" are of the one length that is accounted
  (`--accounting`).
* *Initiator* is who sent SYN; who did not send the first SYN+ACK, if that was seen first; otherwise who sent
  the first packet that was seen.
* The time between packets of a direction is between packets of that direction. The first has none.
";

/// What stands in front of the names in docs/field-names.md.
const NAMES_PAGE: &str = "\
# Names elsewhere

This page is printed by `extractor columns --names ecs,otel --markdown`; a test compares the two. The names on
the left are those of the presets basic and full ([features.md](features.md)).

* A name stands here only if it means the same. What has none keeps its own.
* `extractor --names ecs` or `otel` writes those names into CSV, JSON and Parquet whose values are the same as they
  are; the others keep their own, because their values would have to be written as the last column says.
* Of several processes the names are in one text, with `|` in between. Both vocabularies have one process only,
  so that is the initiator's; the responder's columns keep their names.
* ECS does not say of which layer its bytes are. Those of IP packets are what NetFlow exporters count.
";

pub(crate) fn print(args: &ColumnsArgs) -> Result<ExitCode, Failure> {
    if !args.names.is_empty() {
        return print_names(args);
    }
    let wanted: Vec<&Preset> = match args.preset {
        Some(preset) => vec![preset],
        None => presets().iter().collect(),
    };
    let mut output = io::stdout().lock();
    if args.markdown {
        write!(output, "{PAGE}").map_err(Failure::Stdout)?;
    }
    let printed = wanted.into_iter().try_for_each(|preset| {
        if args.json {
            in_json(&mut output, preset)
        } else if args.markdown {
            in_markdown(&mut output, preset)
        } else {
            in_text(&mut output, preset)
        }
    });
    done(printed)
}

fn done(printed: io::Result<()>) -> Result<ExitCode, Failure> {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print_names(args: &ColumnsArgs) -> Result<ExitCode, Failure> {
    let mut output = io::stdout().lock();
    let front = if args.markdown { write!(output, "{NAMES_PAGE}") } else { Ok(()) };
    done(front.and_then(|()| {
        args.names.iter().try_for_each(|&names| one_vocabulary(&mut output, args, names.into()))
    }))
}

fn one_vocabulary(
    output: &mut impl Write,
    args: &ColumnsArgs,
    vocabulary: Vocabulary,
) -> io::Result<()> {
    let title = match vocabulary {
        Vocabulary::Ecs => "Elastic Common Schema",
        Vocabulary::OpenTelemetry => "OpenTelemetry",
    };
    if args.markdown {
        writeln!(output, "\n## {title}\n\n| column | name | values |\n|---|---|---|")?;
    } else if !args.json {
        writeln!(output, "{title}")?;
    }
    let width = vocabulary.names().map(|other| other.column.len()).max().unwrap_or(0);
    vocabulary.names().try_for_each(|OtherName { column, name, values }| {
        if args.json {
            let row =
                json!({ "vocabulary": title, "column": column, "name": name, "values": values });
            writeln!(output, "{row}")
        } else if args.markdown {
            writeln!(output, "| `{column}` | `{name}` | {values} |")
        } else {
            let values = if values.is_empty() { String::new() } else { format!(" ({values})") };
            writeln!(output, "  {column:width$}  {name}{values}")
        }
    })
}

fn in_json(output: &mut impl Write, preset: &Preset) -> io::Result<()> {
    preset.columns.iter().try_for_each(|column| {
        let Column { name, unit, definition, kind, .. } = column;
        let kind = format!("{kind:?}").to_lowercase();
        let row = json!({
            "preset": preset.name,
            "name": name,
            "unit": unit,
            "kind": kind,
            "definition": definition,
        });
        writeln!(output, "{row}")
    })
}

fn in_markdown(output: &mut impl Write, preset: &Preset) -> io::Result<()> {
    writeln!(output, "\n## {}\n\n{}\n", preset.name, about(preset))?;
    writeln!(output, "| column | unit | definition |\n|---|---|---|")?;
    preset.columns.iter().try_for_each(|Column { name, unit, definition, .. }| {
        writeln!(output, "| `{name}` | {unit} | {definition} |")
    })
}

fn in_text(output: &mut impl Write, preset: &Preset) -> io::Result<()> {
    writeln!(output, "{}: {}", preset.name, about(preset))?;
    let width = preset.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    preset.columns.iter().try_for_each(|Column { name, unit, definition, .. }| {
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        writeln!(output, "  {name:width$}  {definition}{unit}")
    })
}

fn about(preset: &Preset) -> String {
    let Preset { about, idle, active, accounting, .. } = preset;
    let active = match active {
        0 => "no active timeout".to_owned(),
        seconds => format!("active timeout {seconds} s"),
    };
    let length = format!("{accounting:?}").to_lowercase();
    format!("{about}. Idle timeout {idle} s, {active}, sizes by {length} length.")
}
