//! A scene: one bar's namespaces, a tracker that watches them, traffic that knows the truth, and in
//! the end every flow of it with what the tracker's history answers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use procflow_binding::{FlowClock, Histories, HostId, Owner, Place, Vantage, WhichNamespace};
use procflow_core::Protocol;

use crate::Trouble;
use crate::load::{Load, Pace, Running, Server};
use crate::score::{Score, right_for_others};
use crate::table::Row;
use crate::tracker::Tracker;
use crate::truth::{Actor, Flow, Seen, flows};
use crate::world::{Netns, Undertaker};

/// How far off a flow's times are taken to be, in nanoseconds. The generators read the clocks of the
/// host that is tracked, before the first call and after the last, so that what the kernel did lies
/// within; 1 ms is left for what is known of the offset between the two clocks. More would not be
/// kinder: at 1,000 sockets a second one in 1,400 gets the port that another had less than 10 ms ago
/// (28,232 ports, 20 ms), and with a tolerance of 10 ms nobody could tell them apart.
pub const TOLERANCE: u64 = 1_000_000;

/// What all scenes share.
pub struct Stage {
    pub place: PathBuf,
    pub load: Load,
    pub undertaker: Undertaker,
    /// The tracker's `--source`.
    pub source: String,
    pub short: bool,
    /// A clock tick, in nanoseconds.
    pub tick: u64,
    /// Counts what needs a name of its own.
    pub count: AtomicU32,
}

impl Stage {
    /// Whether the kernel tells this source of every socket. The bars are for such a source; one
    /// that looks every so often must only never be wrong, and meet A3.
    pub fn is_told(&self) -> bool {
        self.source == "ebpf"
    }

    /// What a source that is told must reach, in percent. The short form plays a hundred conversations
    /// where the bar is for thousands, on a machine that does other things meanwhile: it asks for
    /// 95 %, which whatever is broken does not reach.
    pub fn told(&self, recall: f64) -> Option<f64> {
        self.is_told().then_some(self.length(recall, recall.min(95.0)))
    }

    /// By how the source sees, and how long the suite may take.
    pub fn pick<T>(&self, told: T, polled: T) -> T {
        if self.is_told() { told } else { polled }
    }

    pub fn length<T>(&self, full: T, short: T) -> T {
        if self.short { short } else { full }
    }

    fn name(&self, word: &str) -> String {
        format!("{word}-{}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A new path.
    pub fn file(&self, word: &str) -> PathBuf {
        self.place.join(self.name(word))
    }

    pub fn netns(&self, word: &str) -> Result<Netns, Trouble> {
        Netns::new(&self.undertaker, &self.name(word))
    }

    /// Where simple traffic goes: a namespace of its own, or the host's for a source that sees no
    /// other.
    pub fn ground(&self) -> Result<Ground, Trouble> {
        if self.source == "portable" {
            return Ok(Ground(None));
        }
        let ground = self.netns("ground")?;
        Ok(Ground(Some(ground)))
    }
}

/// One namespace for both ends.
pub struct Ground(Option<Netns>);

impl Ground {
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|netns| netns.name.as_str())
    }

    /// Flows are seen inside.
    pub fn place(&self, host: HostId) -> Place {
        let which = self.name().map(|name| WhichNamespace::Named(name.to_owned()));
        Place::Inside(host, which.unwrap_or(WhichNamespace::Initial))
    }
}

/// Some traffic: where it is made, and how its records are to be read.
pub struct Act<'a> {
    pub what: &'a str,
    /// A namespace and a generator's words.
    pub server: Option<(Option<&'a str>, String)>,
    pub caller: (Option<&'a str>, String),
    /// Somebody who does something else meanwhile, until the caller has ended.
    pub bystander: Option<(Option<&'a str>, String)>,
    pub seen: Seen,
    pub place: Place,
    /// How many of the ends must be right, in percent.
    pub recall: Option<f64>,
}

/// What is played, waiting for its end or for the answers.
struct Played {
    what: String,
    truth: PathBuf,
    /// The server, a bystander, the caller; until they have ended.
    actors: Option<(Option<Server>, Option<Server>, Running)>,
    pace: Option<Pace>,
    seen: Seen,
    place: Place,
    recall: Option<f64>,
}

impl Played {
    /// Waits for the caller, and for the server to have written everything down.
    fn finish(&mut self) -> Result<(), Trouble> {
        let Some((server, bystander, caller)) = self.actors.take() else { return Ok(()) };
        let pace = caller.finish()?;
        self.pace = (pace.conversations > 0).then_some(pace);
        drop(bystander);
        let size = || std::fs::metadata(&self.truth).map(|facts| facts.len()).unwrap_or(0);
        let (mut last, begin) = (0, Instant::now());
        while size() != last && begin.elapsed() < Duration::from_secs(10) {
            last = size();
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(server);
        Ok(())
    }
}

/// A flow with its answers.
pub struct Answer {
    pub flow: Flow,
    pub source: Owner,
    pub destination: Owner,
}

/// A played act with all its flows.
pub struct Answered {
    pub what: String,
    pub pace: Option<Pace>,
    pub recall: Option<f64>,
    pub answers: Vec<Answer>,
}

/// A bar's scene.
pub struct Scene<'a> {
    pub stage: &'a Stage,
    pub tracker: Tracker,
    pub host: HostId,
    played: Vec<Played>,
    port: u16,
}

impl<'a> Scene<'a> {
    /// Starts the tracker. The namespaces are there before.
    pub fn open(stage: &'a Stage, more: &[&str]) -> Result<Self, Trouble> {
        let tracker = Tracker::start(stage.file("tracker"), &stage.source, more)?;
        let host = tracker.host()?;
        // Its second look has told of addresses, whichever source it is.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self { stage, tracker, host, played: Vec::new(), port: 21_000 })
    }

    /// A port for the next server: no two acts share a listener.
    pub fn port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    /// Plays it. In the short form acts run side by side: most of their time is waiting.
    pub fn play(&mut self, act: Act<'_>) -> Result<(), Trouble> {
        let mut played = self.begin(act)?;
        if !self.stage.short {
            played.finish()?;
        }
        self.played.push(played);
        Ok(())
    }

    /// Plays it to its end, and does something to the tracker meanwhile.
    pub fn play_and(
        &mut self,
        act: Act<'_>,
        meanwhile: impl FnOnce(&Tracker) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut played = self.begin(act)?;
        meanwhile(&self.tracker)?;
        played.finish()?;
        self.played.push(played);
        Ok(())
    }

    /// Waits until all that is played has ended.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        self.played.iter_mut().try_for_each(Played::finish)
    }

    fn begin(&self, act: Act<'_>) -> Result<Played, Trouble> {
        let Act { what, server, caller, bystander, seen, place, recall } = act;
        let truth = self.stage.file("truth");
        let load = &self.stage.load;
        let start = |one: Option<(Option<&str>, String)>| {
            one.map(|(netns, words)| load.start(netns, &truth, &words)).transpose()
        };
        let (server, bystander) = (start(server)?, start(bystander)?);
        // The listeners are nothing that this act is about: they are seen before it begins.
        std::thread::sleep(Duration::from_millis(150));
        let caller = load.begin(caller.0, &truth, &caller.1)?;
        let what = what.to_owned();
        let actors = Some((server, bystander, caller));
        Ok(Played { what, truth, actors, pace: None, seen, place, recall })
    }

    /// Asks the tracker for its history, and that for every flow.
    pub fn answers(&mut self) -> Result<(Vec<Answered>, Histories), Trouble> {
        self.finish()?;
        // Until the source has told of it, and the tracker that nothing else happened: a few looks.
        std::thread::sleep(Duration::from_millis(700));
        if !self.tracker.is_running() {
            return Err(format!("the tracker died: {}", self.tracker.said()).into());
        }
        let histories = self.tracker.histories()?;
        let mut all = Vec::new();
        for played in self.played.drain(..) {
            let text = std::fs::read_to_string(&played.truth)?;
            let vantage = Vantage {
                place: played.place,
                clock: FlowClock::Host,
                tolerance: TOLERANCE,
                granularity: 1,
                icmp_types: true,
            };
            let answer = |flow: Flow| {
                let said = histories.attribute(&flow.key, flow.interval, &vantage);
                Answer { flow, source: said.source, destination: said.destination }
            };
            let flows =
                flows(&text, played.seen).map_err(|error| format!("{}: {error}", played.what))?;
            let answers = flows.into_iter().map(answer).collect();
            let Played { what, pace, recall, .. } = played;
            all.push(Answered { what, pace, recall, answers });
        }
        Ok((all, histories))
    }

    /// The rows of everything that was played.
    pub fn rows(&mut self) -> Result<Vec<Row>, Trouble> {
        let (all, _) = self.answers()?;
        Ok(all.iter().flat_map(|answered| rows(self.stage, answered)).collect())
    }
}

/// Who acts.
const WHO: [&str; 6] =
    ["client", "server", "ping", "kernel", "kernel, ICMP error", "kernel, echo reply"];

/// Type 0, code 0 (RFC 792), as NetFlow has it.
const ECHO_REPLY: u16 = 0;

/// Callers, servers, whoever pings, and the kernel: a row each.
pub fn rows(stage: &Stage, answered: &Answered) -> Vec<Row> {
    let mut who = WHO.map(|name| (name, Vec::new()));
    for Answer { flow, source, destination } in &answered.answers {
        for (role, actor, owner) in [(0, flow.source, source), (1, flow.destination, destination)] {
            let Some(actor) = actor else { continue };
            let icmp = flow.key.protocol == Protocol::ICMP;
            let echo = icmp && flow.key.destination.port() == ECHO_REPLY;
            let role = match actor {
                Actor::Process { .. } if icmp => 2,
                Actor::Process { .. } => role,
                Actor::Kernel if echo => 5,
                Actor::Kernel if icmp => 4,
                Actor::Kernel => 3,
            };
            who[role].1.push((flow, actor, owner));
        }
    }
    let pace = answered.pace.map(Pace::per_second);
    let row = |(name, ends): (&str, Vec<(&Flow, Actor, &Owner)>)| {
        let mut score = Score::default();
        for (flow, actor, owner) in &ends {
            score.add(*actor, owner, stage.tick, || flow.key.to_string());
        }
        let ends: Vec<(Actor, &Owner)> =
            ends.into_iter().map(|(_, actor, owner)| (actor, owner)).collect();
        let others = right_for_others(&ends, stage.tick).filter(|&count| count > 0);
        let control = |count| format!("{count} answers would be right for other processes as well");
        Row {
            what: format!("{}: {name}", answered.what),
            reached: pace,
            score,
            recall: answered.recall,
            may_guess: !stage.is_told(),
            faults: others.map(control).into_iter().collect(),
        }
    };
    who.into_iter().filter(|(_, ends)| !ends.is_empty()).map(row).collect()
}
