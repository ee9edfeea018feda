//! `tracker doctor`: what this host offers a tracker, which source it would use, what is lost by that and
//! how to gain it. Looks at everything once and changes nothing; the programs of the eBPF source run in
//! the kernel for that moment.

use procflow_binding::Coverage;
use procflow_probe::{Choice, Options, Shortfall, Source, open};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::failure::Failure;

/// The sources, best first.
const SOURCES: [(Choice, &str, &str); 3] = [
    (Choice::Ebpf, "ebpf", "the kernel tells of every socket as it is made, used and closed"),
    (Choice::SockDiag, "sock-diag", "looks at all sockets, ten times a second and when prompted"),
    (Choice::Portable, "portable", "looks at the own namespace's sockets, ten times a second"),
];

/// What was found, as `--json` prints it.
#[derive(Serialize)]
struct Findings {
    host: String,
    kernel: String,
    /// The source that a tracker started now would use.
    uses: Option<&'static str>,
    sources: Vec<Finding>,
}

/// One source.
#[derive(Serialize)]
struct Finding {
    source: &'static str,
    what: &'static str,
    works: bool,
    /// What it does not see was not there.
    complete: bool,
    /// Why it does not work.
    because: Option<String>,
    /// What would have to change for it to work.
    remedy: Option<String>,
    lost: Vec<Loss>,
}

/// What a source that works does not see.
#[derive(Serialize)]
struct Loss {
    what: String,
    remedy: Option<String>,
}

/// Looks, and prints what there is.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let sources: Vec<Finding> = SOURCES.into_iter().map(examine).collect();
    let uses = sources.iter().find(|found| found.works).map(|found| found.source);
    let host = procflow_probe::hostname()?;
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let findings = Findings { host, kernel, uses, sources };
    if args.json {
        let text = serde_json::to_string_pretty(&findings);
        println!("{}", text.unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        print!("{findings}");
    }
    match uses {
        Some(_) => Ok(()),
        None => Err(Failure::NoSource),
    }
}

fn examine((choice, source, what): (Choice, &'static str, &'static str)) -> Finding {
    let nothing = Finding {
        source,
        what,
        works: false,
        complete: false,
        because: None,
        remedy: None,
        lost: Vec::new(),
    };
    let looked = open(choice, &Options::default()).and_then(|mut source: Box<dyn Source>| {
        source.collect()?;
        Ok(source)
    });
    match looked {
        Err(error) => {
            Finding { because: Some(error.to_string()), remedy: error.remedy(), ..nothing }
        }
        Ok(source) => {
            // That it was chosen is no loss here.
            let chosen = |shortfall: &&Shortfall| !matches!(shortfall, Shortfall::Netstat);
            let loss = |lost: &Shortfall| Loss { what: lost.to_string(), remedy: lost.remedy() };
            let lost = source.shortfalls().iter().filter(chosen).map(loss).collect();
            let complete = source.coverage() == Coverage::Complete;
            Finding { works: true, complete, lost, ..nothing }
        }
    }
}

impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}, kernel {}", self.host, self.kernel)?;
        for found in &self.sources {
            let state = match (found.works, found.complete) {
                (true, true) => "works, and misses nothing",
                (true, false) => "works",
                (false, _) => "does not work",
            };
            writeln!(f, "\n{:<10} {state}\n           {}", found.source, found.what)?;
            if let Some(because) = &found.because {
                writeln!(f, "  why      {because}")?;
            }
            if let Some(remedy) = &found.remedy {
                writeln!(f, "  to gain  {remedy}")?;
            }
            for loss in &found.lost {
                writeln!(f, "  lost     {}", loss.what)?;
                if let Some(remedy) = &loss.remedy {
                    writeln!(f, "  to gain  {remedy}")?;
                }
            }
        }
        match self.uses {
            Some(source) => writeln!(f, "\nA tracker started now would use {source}."),
            None => writeln!(f, "\nNo source works here."),
        }
    }
}
