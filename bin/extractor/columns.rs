//! `extractor columns`: the dictionary, printed from the table that the values come from.

use std::io::{self, Write};
use std::process::ExitCode;

use procflow_core::features::Column;
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

pub(crate) fn print(args: &ColumnsArgs) -> Result<ExitCode, Failure> {
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
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
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
