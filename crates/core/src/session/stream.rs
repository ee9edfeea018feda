//! A stream is what one side of a connection sends: octets in the order of their sequence numbers, however
//! their segments came (RFC 9293 section 3.4).
//!
//! What is next is handed out at once and not copied; what comes too early waits, and its room is bounded by
//! the owner ([`Stream::shrink`]). A hole is given up when the other side acknowledges what is behind it: it has
//! the octets, the capture has not. Of octets that come twice the first count, as a receiver is to trim what
//! it has (RFC 9293 section 3.10.7.4).
//!
//! Places in the stream have 64 bits and do not wrap: 0 is the first octet, or where it was joined.

use std::collections::BTreeMap;

use super::Loss;

/// A sequence number so far from the furthest seen is of no segment of this connection: the largest window
/// there is (RFC 7323 section 2.3).
const WINDOW: i64 = 1 << 30;

/// What a segment that waits costs besides its octets: its place in the tree, and the allocation.
const SEGMENT: usize = 128;

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Data(&'a [u8]),
    Lost(u64, Loss),
}

/// A segment as the stream sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// The sequence number of its first octet; of the FIN, if it has none.
    pub(crate) sequence: u32,
    /// How many octets its headers say that it has.
    pub(crate) length: u32,
    /// Those that were captured, no more than that.
    pub(crate) captured: &'a [u8],
    /// Whether a FIN follows them.
    pub(crate) fin: bool,
}

/// What a segment had besides octets that are new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Where it began and ended; `None` if it was far out of the window, and not looked at.
    pub(crate) place: Option<(i64, i64)>,
    /// Octets that were seen before.
    pub(crate) repeated: u32,
    /// Whether its FIN was seen before.
    pub(crate) fin_repeated: bool,
    /// Octets that differ from those seen before, as far as these still wait.
    pub(crate) conflicting: u32,
    /// Whether it began beyond what was expected.
    pub(crate) ahead: bool,
    /// Whether it began in front of the furthest octet seen.
    pub(crate) late: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    length: i64,
    captured: Box<[u8]>,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    begun: bool,
    /// Whether octets may be handed out. Until then all wait.
    open: bool,
    /// The place of what is handed out next, and its sequence number.
    next: i64,
    sequence: u32,
    /// The place after the furthest octet seen.
    furthest: i64,
    /// Behind `next`, by their places; none reaches into another.
    waiting: BTreeMap<i64, Waiting>,
    cost: usize,
    fin: Option<i64>,
}

impl Stream {
    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Begins with this sequence number, anew if it has begun; nothing may have been handed out.
    pub(crate) fn begin(&mut self, sequence: u32) {
        *self = Self { begun: true, open: self.open, sequence, ..Self::default() };
    }

    /// Octets may be handed out from now on.
    pub(crate) fn open(&mut self, tell: &mut dyn FnMut(Piece<'_>)) {
        self.open = true;
        self.drain(tell);
    }

    /// What waits costs so many octets of memory.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// The place that a sequence number means: the one next to the furthest octet.
    pub(crate) fn place(&self, sequence: u32) -> Option<i64> {
        // Sequence numbers are places modulo 2^32.
        let furthest = self.sequence.wrapping_add((self.furthest - self.next) as u32);
        let ahead = i64::from(sequence.wrapping_sub(furthest) as i32);
        (self.begun && ahead.abs() <= WINDOW).then_some(self.furthest + ahead)
    }

    /// Takes in a segment.
    pub(crate) fn take(&mut self, segment: Segment<'_>, tell: &mut dyn FnMut(Piece<'_>)) -> Taken {
        let mut taken = Taken::default();
        let Some(start) = self.place(segment.sequence) else { return taken };
        let end = start + i64::from(segment.length);
        taken.place = Some((start, end));
        if segment.fin {
            taken.fin_repeated = self.fin.is_some();
            self.fin.get_or_insert(end);
        }
        if start == end {
            return taken;
        }
        taken.ahead = start > self.furthest;
        taken.late = start < self.furthest;
        self.furthest = self.furthest.max(end);
        let mut at = start.max(self.next);
        let mut new = 0;
        while at < end {
            if let Some((reach, conflicting)) = self.compare(at, start, segment.captured) {
                taken.conflicting += conflicting;
                at = reach;
                continue;
            }
            let until = self.waiting.range(at..).next().map_or(end, |(begin, _)| end.min(*begin));
            new += until - at;
            self.keep(at, until, part(segment.captured, start, at, until), tell);
            at = until;
        }
        taken.repeated = u32::try_from(end - start - new).unwrap_or(u32::MAX);
        if self.open {
            self.drain(tell);
        }
        taken
    }

    /// How far what waits reaches from `at`, and how many of its octets differ from those captured now; `None`
    /// if nothing waits there.
    fn compare(&self, at: i64, start: i64, captured: &[u8]) -> Option<(i64, u32)> {
        let (begin, there) = self.waiting.range(..=at).next_back()?;
        let reach = begin + there.length;
        if reach <= at {
            return None;
        }
        let ours = part(&there.captured, *begin, at, reach);
        let differ = ours.iter().zip(part(captured, start, at, reach)).filter(|(a, b)| a != b);
        Some((reach, u32::try_from(differ.count()).unwrap_or(u32::MAX)))
    }

    /// Hands out octets if they are next, and lets them wait otherwise.
    fn keep(&mut self, at: i64, until: i64, captured: &[u8], tell: &mut dyn FnMut(Piece<'_>)) {
        let length = until - at;
        if self.open && at == self.next {
            hand_out(length, captured, tell);
            self.advance(length);
        } else {
            self.cost += SEGMENT + captured.len();
            self.waiting.insert(at, Waiting { length, captured: captured.into() });
        }
    }

    /// Hands out what waits for nothing.
    fn drain(&mut self, tell: &mut dyn FnMut(Piece<'_>)) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.next {
                break;
            }
            let Waiting { length, captured } = first.remove();
            self.cost -= SEGMENT + captured.len();
            hand_out(length, &captured, tell);
            self.advance(length);
        }
    }

    fn advance(&mut self, octets: i64) {
        self.next += octets;
        self.sequence = self.sequence.wrapping_add(octets as u32);
        self.furthest = self.furthest.max(self.next);
    }

    /// The other side has everything in front of that place: holes there will not be filled.
    pub(crate) fn give_up(&mut self, until: i64, tell: &mut dyn FnMut(Piece<'_>)) {
        if !self.open {
            return;
        }
        while let Some((&begin, _)) = self.waiting.first_key_value() {
            if begin > until {
                break;
            }
            self.miss(begin, tell);
            self.drain(tell);
        }
        if let Some(fin) = self.fin
            && fin <= until
        {
            self.miss(fin, tell);
        }
    }

    /// Tells that everything in front of that place is missing.
    fn miss(&mut self, place: i64, tell: &mut dyn FnMut(Piece<'_>)) {
        let missing = place - self.next;
        if missing > 0 {
            tell(Piece::Lost(missing.unsigned_abs(), Loss::NotSeen));
            self.advance(missing);
        }
    }

    /// Gives up holes, the first ones first, until what waits costs no more than that. What waits for the
    /// handshake is forgotten then, and counts as not seen.
    pub(crate) fn shrink(&mut self, most: usize, tell: &mut dyn FnMut(Piece<'_>)) {
        while self.cost > most {
            match self.waiting.first_key_value() {
                Some((&begin, _)) if self.open => self.give_up(begin, tell),
                _ => {
                    self.waiting.clear();
                    self.cost = 0;
                }
            }
        }
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self, tell: &mut dyn FnMut(Piece<'_>)) {
        self.open(tell);
        self.give_up(i64::MAX, tell);
    }
}

/// The captured ones of the octets from `from` to `until`, of those that begin at `start`.
fn part(captured: &[u8], start: i64, from: i64, until: i64) -> &[u8] {
    let index = |place: i64| usize::try_from(place - start).unwrap_or(0).min(captured.len());
    captured.get(index(from)..index(until)).unwrap_or_default()
}

fn hand_out(length: i64, captured: &[u8], tell: &mut dyn FnMut(Piece<'_>)) {
    if !captured.is_empty() {
        tell(Piece::Data(captured));
    }
    let missing = length.unsigned_abs().saturating_sub(captured.len() as u64);
    if missing > 0 {
        tell(Piece::Lost(missing, Loss::NotCaptured));
    }
}
