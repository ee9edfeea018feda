//! `extractor --batch DIR`: each capture of a directory by itself, into a file of its own with the same stem.
//!
//! Captures are the files in it, not below it, that end in .pcap, .pcapng or .cap, or in that and .gz or .zst.
//! One that is damaged does not stop the others.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::args::Args;
use crate::failure::Failure;
use crate::processes::Processes;
use crate::run::{Done, make_rows};
use crate::stop::Stop;

/// A capture, and the file that its rows go to.
type Pair = (PathBuf, PathBuf);

/// Makes the rows of each capture in this directory.
pub(crate) fn run(args: &Args, directory: &Path) -> Result<ExitCode, Failure> {
    let stop = Stop::listen()?;
    let mut processes = Processes::of(args, false, &stop)?;
    let into = if args.output == Path::new("-") { directory } else { args.output.as_path() };
    let pairs = captures(directory).and_then(|captures| pairs(&captures, into, args.format.name()));
    let mut code = ExitCode::SUCCESS;
    for (capture, output) in pairs? {
        let mut one = args.clone();
        one.source.files = vec![capture.clone()];
        one.output.clone_from(&output);
        let done = make_rows(&one, processes.as_mut(), &stop);
        if let Some(signal) = stop.signal() {
            return Ok(ExitCode::from(128 + signal));
        }
        let (report, failed) = match done {
            Ok(Done { report, failed, .. }) => (Some(report), failed),
            // It would be the same for all.
            Err(failure) if failure.exit_code() == 2 || stop.is_wanted() => return Err(failure),
            Err(failure) => (None, Some(failure)),
        };
        let report = report.filter(|_| !args.quiet);
        if args.json && !args.quiet {
            let mut told = report.map_or_else(|| json!({}), |report| report.in_json());
            told["capture"] = capture.to_string_lossy().into();
            told["output"] = output.to_string_lossy().into();
            told["error"] = failed.as_ref().map(ToString::to_string).into();
            say(&told);
        } else {
            if let Some(report) = report {
                say(&format!("extractor: {}: {}", capture.display(), report.in_text()));
            }
            if let Some(failure) = &failed {
                say(&format!("extractor: {failure}"));
            }
        }
        if failed.is_some() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// The others go on though nobody reads this.
fn say(told: &impl Display) {
    let _ = writeln!(io::stderr(), "{told}");
}

/// The captures in a directory, by name.
fn captures(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::Open { path: directory.to_owned(), source };
    let mut captures = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if stem(&path).is_some() && path.is_file() {
            captures.push(path);
        }
    }
    captures.sort();
    if captures.is_empty() {
        return Err(Failure::NoCaptures(directory.to_owned()));
    }
    Ok(captures)
}

/// What is in front of the endings of a capture's name.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let stem = [".pcap", ".pcapng", ".cap"].iter().find_map(|end| plain.strip_suffix(end))?;
    (!stem.is_empty()).then(|| stem.to_owned())
}

/// Where the rows of each go: to its stem with another ending; to its whole name with one, where several have
/// the same stem.
fn pairs(captures: &[PathBuf], into: &Path, ending: &str) -> Result<Vec<Pair>, Failure> {
    let mut stems: BTreeMap<String, u32> = BTreeMap::new();
    for stem in captures.iter().filter_map(|path| stem(path)) {
        *stems.entry(stem).or_default() += 1;
    }
    let mut taken = BTreeMap::new();
    for capture in captures {
        let (Some(stem), Some(name)) = (stem(capture), capture.file_name()) else { continue };
        let alone = stems.get(&stem) == Some(&1);
        let name = if alone { stem } else { name.to_string_lossy().into_owned() };
        let output = into.join(format!("{name}.{ending}"));
        if let Some(other) = taken.insert(output, capture.clone()) {
            return Err(Failure::SameOutput(other, capture.clone()));
        }
    }
    let mut pairs: Vec<Pair> = taken.into_iter().map(|(output, from)| (from, output)).collect();
    pairs.sort();
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_the_stem_or_to_the_whole_name() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let made = |names: &[&str]| pairs(&paths(names), Path::new("/out"), "csv");
        let outputs = |names: &[&str]| -> Vec<String> {
            let made = made(names).unwrap().into_iter();
            made.map(|(_, output)| output.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(outputs(&["/a/x.1.pcap", "/a/y.cap"]), ["/out/x.1.csv", "/out/y.csv"]);
        assert_eq!(
            outputs(&["/a/x.pcap", "/a/x.pcapng.zst", "/a/z.pcap.gz"]),
            ["/out/x.pcap.csv", "/out/x.pcapng.zst.csv", "/out/z.csv"]
        );
        assert!(matches!(
            made(&["/a/x.pcap", "/a/x.pcapng", "/a/x.pcap.pcap"]),
            Err(Failure::SameOutput(..))
        ));
        for other in ["x.csv", "x.pcap.csv", ".pcap", "x", "x.gz", "xpcap"] {
            assert_eq!(stem(Path::new(other)), None, "{other}");
        }
    }
}
