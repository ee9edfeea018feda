//! A decision tree: questions about a flow's beginning, each with a threshold, and at its leaves what a flow
//! is. It is learned from flows whose label is known, and kept as text that can be read.
//!
//! Learning is greedy: at each node the question is taken that leaves the least impurity (Gini; Breiman et
//! al., Classification and Regression Trees, 1984). There is no randomness in it, so that the same flows
//! give the same tree.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::beginning::{ASKED, Beginning};

/// How far a tree grows. A larger one knows the flows it learned from by heart, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// So many questions follow one another at most.
    pub(crate) depth: usize,
    /// So many flows are behind each answer at least.
    pub(crate) least: usize,
}

/// A flow whose label is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lesson {
    pub(crate) beginning: Beginning,
    pub(crate) label: String,
    /// Which capture it is from.
    pub(crate) capture: usize,
}

/// What the tree says of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess<'a> {
    pub(crate) label: &'a str,
    /// Which part of the flows at this leaf had that label, from 0 to 1.
    pub(crate) share: f64,
}

/// A decision tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(Vec<Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Whether what is asked of the beginning is at most so large, where to go on then, and where
    /// otherwise: always further down.
    Question { asked: usize, most: i32, then: usize, otherwise: usize },
    /// So many of these flows had this label.
    Leaf { label: String, right: usize, of: usize },
}

impl Tree {
    /// Learns from these flows.
    pub(crate) fn learn<'a>(lessons: impl IntoIterator<Item = &'a Lesson>, growth: Growth) -> Self {
        let mut tree = Self(Vec::new());
        tree.grow(lessons.into_iter().collect(), growth);
        tree
    }

    fn grow(&mut self, lessons: Vec<&Lesson>, Growth { depth, least }: Growth) {
        let here = self.0.len();
        let counts = counts(&lessons);
        // Of labels that are as frequent, the first in the alphabet.
        let (label, right) = counts
            .iter()
            .rev()
            .max_by_key(|(_, count)| **count)
            .map_or(("", 0), |(label, count)| (*label, *count));
        let of = lessons.len();
        self.0.push(Node::Leaf { label: label.to_owned(), right, of });
        if right == of || depth == 0 {
            return;
        }
        let Some((asked, most)) = best_question(&lessons, least) else { return };
        let (yes, no): (Vec<_>, Vec<_>) =
            lessons.into_iter().partition(|lesson| lesson.beginning.0[asked] <= most);
        let then = self.0.len();
        let growth = Growth { depth: depth - 1, least };
        self.grow(yes, growth);
        let otherwise = self.0.len();
        self.grow(no, growth);
        self.0[here] = Node::Question { asked, most, then, otherwise };
    }

    /// What a flow is that begins like this.
    pub(crate) fn guess(&self, beginning: &Beginning) -> Option<Guess<'_>> {
        let mut node = self.0.first()?;
        // Every answer leads further down.
        loop {
            match node {
                Node::Question { asked, most, then, otherwise } => {
                    let yes = beginning.0.get(*asked)? <= most;
                    node = self.0.get(if yes { *then } else { *otherwise })?;
                }
                Node::Leaf { label, right, of } => {
                    return Some(Guess { label, share: *right as f64 / *of as f64 });
                }
            }
        }
    }
}

fn counts<'a>(lessons: &[&'a Lesson]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for lesson in lessons {
        *counts.entry(lesson.label.as_str()).or_default() += 1;
    }
    counts
}

/// The question after which the flows are least mixed; none if all are as mixed as before, or if it would
/// leave too few on a side. Of several that are as good the first.
fn best_question(lessons: &[&Lesson], least: usize) -> Option<(usize, i32)> {
    let all = counts(lessons);
    let mut best = (impurity(&all, lessons.len()) - 1e-9, None);
    for asked in 0..ASKED.len() {
        let mut sorted: Vec<&Lesson> = lessons.to_vec();
        sorted.sort_by_key(|lesson| lesson.beginning.0[asked]);
        let (mut below, mut above) = (BTreeMap::new(), all.clone());
        for (index, pair) in sorted.windows(2).enumerate() {
            let [last, next] = [pair[0], pair[1]];
            *below.entry(last.label.as_str()).or_default() += 1;
            above.entry(last.label.as_str()).and_modify(|count| *count -= 1);
            let (under, over) = (index + 1, sorted.len() - index - 1);
            let [last, next] = [last, next].map(|lesson| lesson.beginning.0[asked]);
            if last == next || under < least || over < least {
                continue;
            }
            let mixed = impurity(&below, under) + impurity(&above, over);
            if mixed < best.0 - 1e-9 {
                // Half way to the next that was seen.
                best = (mixed, Some((asked, last.midpoint(next))));
            }
        }
    }
    best.1
}

/// Gini's impurity, times the number of flows.
fn impurity(counts: &BTreeMap<&str, usize>, of: usize) -> f64 {
    let squares: usize = counts.values().map(|count| count * count).sum();
    of as f64 - squares as f64 / of as f64
}

impl fmt::Display for Tree {
    /// A node a line, each with its number in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, node) in self.0.iter().enumerate() {
            match node {
                Node::Question { asked, most, then, otherwise } => {
                    let asked = ASKED[*asked];
                    writeln!(f, "{number} {asked} <= {most} then {then} else {otherwise}")?;
                }
                Node::Leaf { label, right, of } => writeln!(f, "{number} {label} {right} of {of}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Tree {
    type Err = String;

    /// Reads what was written. Lines that begin with # are for people.
    fn from_str(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let node = |(number, line): (usize, &&str)| {
            node(number, line, lines.len()).ok_or_else(|| format!("no node of a tree: {line:?}"))
        };
        let nodes = lines.iter().enumerate().map(node).collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err("a tree without nodes".to_owned());
        }
        Ok(Self(nodes))
    }
}

/// A node as a line. Answers lead to nodes behind it only: nothing goes round in circles.
fn node(number: usize, line: &str, nodes: usize) -> Option<Node> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (first, words) = words.split_first()?;
    if first.parse() != Ok(number) {
        return None;
    }
    match words {
        [asked, "<=", most, "then", then, "else", otherwise] => {
            let asked = ASKED.iter().position(|known| known == asked)?;
            let down = |to: &str| to.parse().ok().filter(|to| (number + 1..nodes).contains(to));
            let (then, otherwise) = (down(then)?, down(otherwise)?);
            Some(Node::Question { asked, most: most.parse().ok()?, then, otherwise })
        }
        [label, right, "of", of] => {
            let (right, of) = (right.parse().ok()?, of.parse().ok()?);
            (right <= of && of > 0).then(|| Node::Leaf { label: (*label).to_owned(), right, of })
        }
        _ => None,
    }
}
