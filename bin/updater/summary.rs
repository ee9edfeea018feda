//! The summary: what an update did, counted; as a text for people or a line of JSON.

use std::collections::BTreeMap;
use std::fmt;

use procflow_binding::{Attribution, Owner, Reason};
use serde::Serialize;

/// What one update did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) files: Files,
    pub(crate) flows: Flows,
    /// Both ends of every flow: those known by their quality, the others by the reason.
    pub(crate) ends: Ends,
    #[serde(skip)]
    pub(crate) ambiguous_places: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Files {
    /// Replaced by (or, with --output, written as) an annotated one.
    pub(crate) annotated: u64,
    /// Read; there was nothing to write.
    pub(crate) unchanged: u64,
    /// Finished by an earlier update, or older than the history.
    pub(crate) skipped: u64,
    /// Not final yet.
    pub(crate) not_yet: u64,
    /// In the hands of another updater.
    pub(crate) locked: u64,
    pub(crate) failed: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Flows {
    pub(crate) read: u64,
    /// At least one end is known.
    pub(crate) attributed: u64,
    /// A name was written.
    pub(crate) named: u64,
    /// Had the name already.
    pub(crate) already_named: u64,
    /// Have another name, which was kept.
    pub(crate) foreign_names_kept: u64,
    /// Had another name, which was replaced (--replace-names).
    pub(crate) foreign_names_replaced: u64,
    /// Anonymised, so never attributed.
    pub(crate) anonymised: u64,
    /// The record is too long for a name.
    pub(crate) no_room: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Ends {
    pub(crate) known: BTreeMap<String, u64>,
    pub(crate) unknown: BTreeMap<String, u64>,
}

impl Ends {
    /// So many ends more, all of one kind.
    pub(crate) fn add(&mut self, known: bool, why: String, ends: u64) {
        if ends > 0 {
            let kind = if known { &mut self.known } else { &mut self.unknown };
            *kind.entry(why).or_default() += ends;
        }
    }
}

impl Summary {
    pub(crate) fn count(&mut self, attribution: &Attribution) {
        let ends = [&attribution.source, &attribution.destination];
        let known = |owner: &&Owner| matches!(owner, Owner::Known { .. });
        self.flows.attributed += u64::from(ends.iter().any(known));
        ends.into_iter().for_each(|owner| self.ends.add(known(&owner), owner.why(), 1));
        let ambiguous = |owner: &&Owner| matches!(owner, Owner::Ambiguous { .. });
        self.ambiguous_places += u64::from(ends.iter().any(ambiguous));
    }

    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { files, flows, ends, ambiguous_places } = other;
        self.files.annotated += files.annotated;
        self.files.unchanged += files.unchanged;
        self.files.skipped += files.skipped;
        self.files.not_yet += files.not_yet;
        self.files.locked += files.locked;
        self.files.failed += files.failed;
        self.flows.read += flows.read;
        self.flows.attributed += flows.attributed;
        self.flows.named += flows.named;
        self.flows.already_named += flows.already_named;
        self.flows.foreign_names_kept += flows.foreign_names_kept;
        self.flows.foreign_names_replaced += flows.foreign_names_replaced;
        self.flows.anonymised += flows.anonymised;
        self.flows.no_room += flows.no_room;
        for (all, more) in
            [(&mut self.ends.known, ends.known), (&mut self.ends.unknown, ends.unknown)]
        {
            for (what, count) in more {
                *all.entry(what).or_default() += count;
            }
        }
        self.ambiguous_places += ambiguous_places;
    }

    /// Whether there was anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.annotated + self.files.unchanged + self.files.failed == 0
    }

    /// Whether flows wait for events that have not come yet.
    pub(crate) fn waits(&self) -> bool {
        self.ends.unknown.contains_key(&Reason::NotYetKnown.to_string())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, flows, ends, .. } = self;
        write!(f, "files: {} annotated, {} unchanged", files.annotated, files.unchanged)?;
        let more = [
            (files.skipped, "skipped"),
            (files.not_yet, "not final yet"),
            (files.locked, "left to another updater"),
            (files.failed, "failed"),
        ];
        for (count, what) in more.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        write!(
            f,
            "\nflows: {} read, {} attributed, {} named",
            flows.read, flows.attributed, flows.named
        )?;
        let more = [
            (flows.already_named, "named already"),
            (flows.foreign_names_kept, "with another name, kept"),
            (flows.foreign_names_replaced, "with another name, replaced"),
            (flows.anonymised, "anonymised"),
            (flows.no_room, "without room for a name"),
        ];
        for (count, what) in more.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        for (title, kind) in [("known", &ends.known), ("unknown", &ends.unknown)] {
            let counts: Vec<String> =
                kind.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            write!(f, "\nends {title}: {counts}")?;
        }
        Ok(())
    }
}
