//! What is printed: a table for people, a JSON line for every figure.

use std::io::Write;

use serde::Serialize;

use crate::score::Score;

/// The ends of one kind of traffic.
pub struct Row {
    pub what: String,
    /// Conversations per second that the generator reached.
    pub reached: Option<f64>,
    pub score: Score,
    /// The bar: so many percent right at least. Wrong is never allowed …
    pub recall: Option<f64>,
    /// … but for wrong guesses that say that they are guesses, where this allows them.
    pub may_guess: bool,
    /// What else was demanded and not met.
    pub faults: Vec<String>,
}

/// A single figure.
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// `None` where nothing is demanded.
    pub pass: Option<bool>,
}

/// A line of the result.
pub enum Line {
    Row(Row),
    Figure(Figure),
}

impl Row {
    /// Met?
    pub fn pass(&self) -> bool {
        self.forbidden() == 0
            && self.faults.is_empty()
            && self.recall.is_none_or(|least| self.score.recall() >= least)
    }
}

impl Row {
    /// Wrong answers that are not allowed.
    fn forbidden(&self) -> usize {
        self.score.wrong - if self.may_guess { self.score.guessed } else { 0 }
    }
}

impl Line {
    pub fn pass(&self) -> bool {
        match self {
            Self::Row(row) => row.pass(),
            Self::Figure(figure) => figure.pass.unwrap_or(true),
        }
    }
}

/// The head of the table. *seen*: right answers that were observed, the others are right guesses,
/// marked as such; *wrong*: named somebody else as if that had been observed; *guess*: the
/// same, but marked as no observation; *each*: processes that a right answer names, on average.
pub fn head() {
    println!(
        "{:<4} {:<9} {:<44} {:>7} {:>7} {:>7} {:>7} {:>5} {:>5} {:>5} {:>5} {:>4}  unknown by reason",
        "bar",
        "source",
        "what",
        "conn/s",
        "ends",
        "recall",
        "precis.",
        "seen",
        "wrong",
        "guess",
        "ambig",
        "each"
    );
}

/// One line of it.
pub fn show(bar: &str, source: &str, line: &Line) {
    let verdict = if line.pass() { "" } else { "  FAIL" };
    match line {
        Line::Row(row) => {
            let score = &row.score;
            let reached = row.reached.map_or("-".to_owned(), |reached| format!("{reached:.0}"));
            let reasons: Vec<String> =
                score.unknown.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            println!(
                "{bar:<4} {source:<9} {:<44} {reached:>7} {:>7} {:>6.2}% {:>6.2}% {:>4.0}% {:>5} {:>5} {:>5} {:>4.1}  {}{verdict}",
                row.what,
                score.ends,
                score.recall(),
                score.precision(),
                score.observed_share(),
                score.wrong - score.guessed,
                score.guessed,
                score.ambiguous,
                score.named_each(),
                reasons.join(", "),
            );
            if let Some(least) = row.recall
                && score.recall() < least
            {
                println!("     below the bar: {least} % right");
            }
            row.faults.iter().for_each(|fault| println!("     {fault}"));
            score.examples.iter().for_each(|example| println!("     wrong: {example}"));
        }
        Line::Figure(Figure { what, value, unit, .. }) => {
            println!("{bar:<4} {source:<9} {what:<44} {value:>12.2} {unit}{verdict}");
        }
    }
    let _ = std::io::stdout().flush(); // a closed pipe shows at the next line
}

/// One figure for machines.
#[derive(Serialize)]
struct Json<'a> {
    bar: String,
    value: f64,
    unit: &'a str,
    pass: Option<bool>,
}

/// Writes a line as JSON, a figure each.
pub fn json(to: &mut impl Write, bar: &str, source: &str, line: &Line) -> std::io::Result<()> {
    let mut write = |what: &str, value: f64, unit: &str, pass: Option<bool>| {
        let bar = format!("{bar} {source} {what}");
        let text = serde_json::to_string(&Json { bar, value, unit, pass })?;
        writeln!(to, "{text}")
    };
    match line {
        Line::Figure(Figure { what, value, unit, pass }) => write(what, *value, unit, *pass),
        Line::Row(row) => {
            let (what, score) = (&row.what, &row.score);
            let recall = row.recall.map(|least| score.recall() >= least);
            #[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
            let count = |count: usize| count as f64;
            write(&format!("{what}, ends"), count(score.ends), "ends", None)?;
            write(&format!("{what}, recall"), score.recall(), "%", recall)?;
            write(&format!("{what}, precision"), score.precision(), "%", None)?;
            let wrong = score.wrong - score.guessed;
            write(&format!("{what}, wrong"), count(wrong), "ends", Some(wrong == 0))?;
            let guessed = (!row.may_guess).then_some(score.guessed == 0);
            write(&format!("{what}, wrong guesses"), count(score.guessed), "ends", guessed)?;
            write(&format!("{what}, observed of right"), score.observed_share(), "%", None)?;
            write(&format!("{what}, ambiguous"), count(score.ambiguous), "ends", None)?;
            for (reason, number) in &score.unknown {
                write(&format!("{what}, {reason}"), count(*number), "ends", None)?;
            }
            for fault in &row.faults {
                write(&format!("{what}, {fault}"), 1.0, "faults", Some(false))?;
            }
            if let Some(reached) = row.reached {
                write(&format!("{what}, reached"), reached, "conversations/s", None)?;
            }
            Ok(())
        }
    }
}
