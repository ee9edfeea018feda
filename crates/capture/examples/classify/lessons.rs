//! Lessons: flows of captures whose application is known, because NFStream has looked into their payload
//! and its results lie beside the captures. Which of them are learned from and which are held out is
//! decided by the capture, not by the flow: flows of one capture are of one host, and alike.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Sender};

use procflow_capture::CaptureFile;
use procflow_core::features::{Accounting, Way};
use procflow_core::flow::{AsTheyAre, Filled, Record, Settings, meter_with};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::plugin::{Plugin, PluginColumn, Plugins, Shown, Values, Verdict};

use crate::beginning::Beginning;
use crate::tree::{Growth, Lesson, Tree};

/// What is told apart. All else is `other`.
const LABELS: [&str; 4] = ["DNS", "HTTP", "QUIC", "TLS"];
const OTHER: &str = "other";

/// Of one capture so many flows of a label are taken: a large capture must not be all that is learned.
const OF_A_CAPTURE: usize = 4;

/// Every so many captures one is held out.
const HELD_OUT: usize = 3;

/// Pieces of another capture that is there as a whole.
const PIECES: &str = "one_flow";

/// What was learned from, and what was not.
pub(crate) struct Lessons {
    pub(crate) learned: Vec<Lesson>,
    pub(crate) held_out: Vec<Lesson>,
}

impl Lessons {
    /// All lessons of a directory: captures in `pcaps`, results of the same names in `results`.
    pub(crate) fn of(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.join("results"))? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.retain(|name| !name.starts_with(PIECES));
        names.sort();
        let (mut learned, mut held_out) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let results = fs::read_to_string(directory.join("results").join(name))?;
            let into = if index % HELD_OUT == 0 { &mut held_out } else { &mut learned };
            of_capture(index, &directory.join("pcaps").join(name), &results, into)?;
        }
        // A copy of what was learned proves nothing.
        held_out.retain(|lesson: &Lesson| {
            learned.iter().all(|other| other.beginning != lesson.beginning)
        });
        Ok(Self { learned, held_out })
    }

    /// How far a tree is to grow, by those that are learned from alone: each fifth of their captures is
    /// guessed by what the others teach. Gives how many are guessed right, too; of growths that are as
    /// good the smaller one.
    fn growth(&self) -> (usize, Growth) {
        let part = |lesson: &Lesson| lesson.capture / HELD_OUT % 5;
        let right = |growth: Growth| -> usize {
            let of_part = |number| {
                let others = self.learned.iter().filter(|lesson| part(lesson) != number);
                let tree = Tree::learn(others, growth);
                let of = self.learned.iter().filter(|lesson| part(lesson) == number);
                of.filter(|lesson| knows(&tree, lesson)).count()
            };
            (0..5).map(of_part).sum()
        };
        // The last of the best is taken.
        let growths =
            (1..=8).rev().flat_map(|depth| [2, 4, 8].map(|least| Growth { depth, least }));
        let rated = growths.map(|growth| (right(growth), growth));
        rated.max_by_key(|(right, _)| *right).unwrap_or((0, Growth { depth: 1, least: 8 }))
    }

    /// The tree that they teach, as it is kept: with what it is worth in front.
    pub(crate) fn teach(&self) -> String {
        let (validated, growth) = self.growth();
        let Growth { depth, least } = growth;
        let tree = Tree::learn(&self.learned, growth);
        let (learned, held_out) = (&self.learned[..], &self.held_out[..]);
        let mut text = String::from(
            "# What a flow is, by its first payloads: size_1 is the octets of the first, negative if it goes to\n\
             # the initiator, 0 if there is none. A leaf says how many of the flows that it was learned from\n\
             # were that. Made by the example `classify`; see there.\n#\n",
        );
        text += &format!("# Learned from: {}\n", score(&tree, learned));
        text += &format!(
            "# Cross-validated among them: {validated} right ({}), best by {depth} questions at most and\n\
             # {least} flows at a leaf at least\n",
            percent(validated, learned.len())
        );
        text += &format!("# Held out, of other captures: {}\n", score(&tree, held_out));
        let labels = || LABELS.into_iter().chain([OTHER]);
        let mut shares = 0.0;
        for label in labels() {
            let of: Vec<_> =
                held_out.iter().filter(|lesson| lesson.label == label).cloned().collect();
            text += &format!("#   {label}: {}\n", score(&tree, &of));
            let right = of.iter().filter(|lesson| knows(&tree, lesson)).count();
            shares += right as f64 / of.len().max(1) as f64;
        }
        let labelled = |label: &str, lessons: &[Lesson]| {
            lessons.iter().filter(|lesson| lesson.label == label).count()
        };
        let most = labels().max_by_key(|label| labelled(label, learned)).unwrap_or(OTHER);
        let same = labelled(most, held_out);
        let all = labels().count() as f64;
        text += &format!("#   mean of the labels: {:.0} %\n", 100.0 * shares / all);
        text += &format!(
            "# Always {most}, for comparison: {same} of {} right ({}), mean of the labels: {:.0} %\n",
            held_out.len(),
            percent(same, held_out.len()),
            100.0 / all
        );
        text + &tree.to_string()
    }
}

/// Whether a tree guesses what a flow is.
fn knows(tree: &Tree, lesson: &Lesson) -> bool {
    tree.guess(&lesson.beginning).is_some_and(|guess| guess.label == lesson.label)
}

/// How many of some flows a tree knows.
fn score(tree: &Tree, lessons: &[Lesson]) -> String {
    let right = lessons.iter().filter(|lesson| knows(tree, lesson)).count();
    format!("{right} of {} right ({})", lessons.len(), percent(right, lessons.len()))
}

fn percent(part: usize, of: usize) -> String {
    if of == 0 {
        return "none".to_owned();
    }
    format!("{:.0} %", 100.0 * part as f64 / of as f64)
}

/// The lessons of a capture. A flow is found in the results by its packets and octets; one that could be
/// another's, one whose application is not known, and one without payload teach nothing.
fn of_capture(
    capture: usize,
    path: &Path,
    results: &str,
    into: &mut Vec<Lesson>,
) -> Result<(), Box<dyn Error>> {
    let mut labels: BTreeMap<(u64, u64), BTreeSet<&str>> = BTreeMap::new();
    for line in results.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, packets, octets, application, ..] = fields[..] else { continue };
        let label = label(application);
        labels.entry((packets.parse()?, octets.parse()?)).or_default().insert(label);
    }
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for flow in flows(path)? {
        let Some(found) = labels.get(&(flow.packets, flow.octets)) else { continue };
        let (1, Some(&label)) = (found.len(), found.first()) else { continue };
        let taken = taken.entry(label).or_default();
        if label.is_empty() || flow.beginning.is_silent() || *taken == OF_A_CAPTURE {
            continue;
        }
        *taken += 1;
        into.push(Lesson { beginning: flow.beginning, label: label.to_owned(), capture });
    }
    Ok(())
}

/// What an application is called here; empty if it is not known. Of `TLS.Github` the protocol counts.
fn label(application: &str) -> &'static str {
    let protocol = application.split('.').next().unwrap_or_default();
    if protocol == "Unknown" {
        return "";
    }
    LABELS.into_iter().find(|label| *label == protocol).unwrap_or(OTHER)
}

/// A flow, as far as it is needed here.
struct Measured {
    beginning: Beginning,
    packets: u64,
    octets: u64,
}

/// Hands the beginning of each flow on. Learning sees flows as guessing does: by a plugin.
#[derive(Clone)]
struct Measure(Sender<Measured>);

impl Plugin for Measure {
    type State = Beginning;

    fn columns(&self) -> Vec<PluginColumn> {
        Vec::new()
    }

    fn begin(&mut self, _: &Shown<'_>) -> Beginning {
        Beginning::default()
    }

    fn update(&mut self, beginning: &mut Beginning, shown: &Shown<'_>) -> Verdict {
        beginning.see(shown);
        Verdict::GoOn
    }

    fn end(&mut self, beginning: Beginning, record: &Record, _: &mut Values<'_>) {
        let packets = record.packets(Way::Both);
        let octets = record.octets(Way::Both, Accounting::Wire);
        // Who receives them waits for the end of all.
        let _ = self.0.send(Measured { beginning, packets, octets });
    }
}

/// The flows of a capture, as far as it can be read. One thread, so that they come in the same order.
fn flows(path: &Path) -> Result<Vec<Measured>, Box<dyn Error>> {
    let mut file = CaptureFile::open(path)?;
    let source = |batch: &mut Batch| match file.next_batch(batch) {
        Ok(()) if !batch.is_empty() => Filled::More(None),
        _ => Filled::Last,
    };
    let (sender, receiver) = mpsc::channel();
    let mut plugins = Plugins::default();
    plugins.add(Measure(sender))?;
    let settings = Settings::default();
    meter_with(
        &plugins,
        Decoder::default(),
        settings,
        1,
        source,
        &AsTheyAre,
        |_: &Vec<_>, _: usize| (),
    );
    drop(plugins);
    Ok(receiver.into_iter().collect())
}
