//! A name: the text of at most 65 bytes that stands for an attribution in nfdump's user name.
//!
//! Processes choose what they are called, nfdump escapes nothing, and our own marks must mean
//! what they mean: so every character of a process' own that nfdump's CSV and JSON, a terminal or
//! this format would misread is replaced by `_`.

use std::str::FromStr;

use procflow_binding::{Attribution, Holder, Owner, Quality, Reason};
use smol_str::SmolStr;

/// What nfdump's user name holds.
pub const MOST: usize = 65;

/// What to write when nobody can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Leave the record without a name.
    Nothing,
    /// `?` and why.
    Reason,
}

/// How one process is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Comm,
    Pid,
    Exe,
    Unit,
    Container,
    User,
    Quality,
}

const FIELDS: [(&str, Field); 7] = [
    ("comm", Field::Comm),
    ("pid", Field::Pid),
    ("exe", Field::Exe),
    ("unit", Field::Unit),
    ("container", Field::Container),
    ("user", Field::User),
    ("quality", Field::Quality),
];

impl Default for Template {
    /// The command name.
    fn default() -> Self {
        Self(vec![Part::Field(Field::Comm)])
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (field, after) = after.split_once('}').ok_or("a { without its }")?;
            let known = FIELDS.iter().find(|(name, _)| *name == field);
            let Some(&(_, known)) = known else {
                let all: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                return Err(format!("there is no {{{field}}}; there are {}", all.join(", ")));
            };
            parts.extend([Part::Text(before.to_owned()), Part::Field(known)]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        if !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err("it names no field, so every flow would look the same".to_owned());
        }
        for part in &parts {
            if let Part::Text(text) = part
                && let Some(bad) = text.chars().find(|&c| !harmless(c) || c == '}')
            {
                return Err(format!("{bad:?} would be misread, by nfdump or by you"));
            }
        }
        Ok(Self(parts))
    }
}

/// Whether nobody misreads a character: nfdump does not escape quotes, commas, backslashes and
/// controls; `>`, `|` and `?` are ours; direction marks make a terminal show something else.
fn harmless(c: char) -> bool {
    let ours = matches!(c, '>' | '|' | '?');
    let nfdumps = matches!(c, '"' | '\'' | ',' | '\\' | '`');
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}');
    !(ours || nfdumps || invisible || c.is_control())
}

/// The name of an attribution; `None` when the record is to have none.
#[must_use]
pub fn name(attribution: &Attribution, template: &Template, miss: Miss) -> Option<String> {
    let tracked = |owner: &Owner| *owner != Owner::Unknown(Reason::NotThisHost);
    let known = |owner: &Owner| matches!(owner, Owner::Known { .. });
    let Attribution { source, destination } = attribution;
    if miss == Miss::Nothing && !known(source) && !known(destination) {
        return None;
    }
    let write = |owner: &Owner, room| match owner {
        owner if miss == Miss::Reason && !known(owner) => cut(format!("?{}", owner.why()), room),
        owner => name_of(owner, template, room),
    };
    match (tracked(source), tracked(destination)) {
        (true, false) => Some(write(source, MOST)),
        (false, _) => Some(write(destination, MOST)),
        (true, true) => {
            // Each end may use what the other leaves, and has half for certain.
            let half = (MOST - 1) / 2;
            let (long_source, long_destination) = (write(source, MOST), write(destination, MOST));
            let source_room = (MOST - 1).saturating_sub(long_destination.len()).max(half);
            let source = write(source, source_room);
            let destination_room = MOST - 1 - source.len();
            let destination = if long_source == source && long_destination.len() <= destination_room
            {
                long_destination
            } else {
                write(destination, destination_room)
            };
            Some(format!("{source}>{destination}"))
        }
    }
}

/// The name of an end that is known, in so many bytes; empty for others.
#[must_use]
pub fn name_of(owner: &Owner, template: &Template, room: usize) -> String {
    match owner {
        Owner::Known { holders, quality } => holders_name(holders, *quality, template, room),
        _ => String::new(),
    }
}

/// `a|b?|+3`: as many as there is room for, each marked if it is not an observation, and how many
/// more there are.
fn holders_name(holders: &[Holder], quality: Quality, template: &Template, room: usize) -> String {
    let mark = if quality.is_observation() { "" } else { "?" };
    let mut names: Vec<String> = Vec::new();
    for holder in holders {
        let name = template.write(holder, quality);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut text = String::new();
    for (i, name) in names.iter().enumerate() {
        let left = names.len() - i - 1;
        let more = if left == 0 { String::new() } else { format!("|+{left}") };
        let bar = if i == 0 { "" } else { "|" };
        let needed = bar.len() + name.len() + mark.len() + more.len();
        if text.len() + needed > room {
            if i > 0 {
                text.push_str(&format!("|+{}", left + 1));
                return text;
            }
            let name = cut(name.clone(), room.saturating_sub(mark.len() + more.len()));
            return format!("{name}{mark}{more}");
        }
        text.push_str(bar);
        text.push_str(name);
        text.push_str(mark);
    }
    text
}

impl Template {
    fn write(&self, holder: &Holder, quality: Quality) -> String {
        let process = &holder.process;
        let or_none = |text: &Option<SmolStr>| text.as_deref().unwrap_or("-").to_owned();
        let mut name = String::new();
        for part in &self.0 {
            let value = match part {
                Part::Text(text) => text.clone(),
                Part::Field(Field::Comm) if process.comm.is_empty() => "-".to_owned(),
                Part::Field(Field::Comm) => process.comm.to_string(),
                Part::Field(Field::Pid) => process.key.pid.to_string(),
                Part::Field(Field::Exe) => or_none(&process.executable),
                Part::Field(Field::Unit) => or_none(&process.unit),
                Part::Field(Field::Container) => or_none(&process.container),
                Part::Field(Field::User) => match (&process.user, process.uid) {
                    (None, Some(uid)) => uid.to_string(),
                    (user, _) => or_none(user),
                },
                Part::Field(Field::Quality) => quality.to_string(),
            };
            name.extend(value.chars().map(|c| if harmless(c) { c } else { '_' }));
        }
        name
    }
}

/// At most `room` bytes, whole characters.
fn cut(mut text: String, room: usize) -> String {
    text.truncate(text.floor_char_boundary(room));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{BootId, BootTime, HostId, NamespaceId, Process, ProcessKey};
    use std::sync::Arc;

    fn holder(comm: &str) -> Holder {
        let process = Process {
            key: ProcessKey { pid: 42, start: BootTime(1) },
            comm: comm.into(),
            executable: Some("/usr/sbin/x".into()),
            uid: Some(33),
            user: None,
            container: None,
            unit: Some("nginx.service".into()),
        };
        let (host, boot, namespace) = (HostId([0; 16]), BootId([0; 16]), NamespaceId(1));
        Holder { host, boot, namespace, process: Arc::new(process), details: None }
    }

    fn known(comms: &[&str], quality: Quality) -> Owner {
        Owner::Known { holders: comms.iter().map(|comm| holder(comm)).collect(), quality }
    }

    const ELSEWHERE: Owner = Owner::Unknown(Reason::NotThisHost);
    const MISSED: Owner = Owner::Unknown(Reason::NotObserved);

    fn write(source: Owner, destination: Owner, miss: Miss) -> Option<String> {
        let template = "{comm}".parse().unwrap();
        name(&Attribution { source, destination }, &template, miss)
    }

    #[test]
    fn each_end_has_its_place() {
        let curl = || known(&["curl"], Quality::Exact);
        let nginx = || known(&["nginx"], Quality::Listener);
        let plain = |source, destination| write(source, destination, Miss::Nothing);
        assert_eq!(plain(curl(), nginx()).as_deref(), Some("curl>nginx?"));
        assert_eq!(plain(curl(), ELSEWHERE).as_deref(), Some("curl"));
        assert_eq!(plain(ELSEWHERE, nginx()).as_deref(), Some("nginx?"));
        assert_eq!(plain(curl(), MISSED).as_deref(), Some("curl>"));
        assert_eq!(plain(MISSED, nginx()).as_deref(), Some(">nginx?"));
        assert_eq!(plain(MISSED, ELSEWHERE), None);
        assert_eq!(plain(Owner::Kernel, ELSEWHERE), None);
        assert_eq!(plain(Owner::Ambiguous { candidates: vec![holder("a")] }, ELSEWHERE), None);
    }

    #[test]
    fn a_miss_may_say_why() {
        let reason = |source, destination| write(source, destination, Miss::Reason).unwrap();
        assert_eq!(reason(MISSED, ELSEWHERE), "?not-observed");
        assert_eq!(reason(ELSEWHERE, ELSEWHERE), "?not-this-host");
        assert_eq!(reason(known(&["curl"], Quality::Exact), MISSED), "curl>?not-observed");
        assert_eq!(reason(Owner::Kernel, ELSEWHERE), "?kernel");
    }

    #[test]
    fn several_owners_are_all_named_once() {
        let owner = known(&["nginx", "worker", "nginx"], Quality::Exact);
        assert_eq!(write(owner, ELSEWHERE, Miss::Nothing).unwrap(), "nginx|worker");
        let many: Vec<String> = (0..50).map(|i| format!("process-{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let name = write(known(&many, Quality::Exact), ELSEWHERE, Miss::Nothing).unwrap();
        assert_eq!(name, "process-0|process-1|process-2|process-3|process-4|process-5|+44");
    }

    #[test]
    fn what_a_process_calls_itself_is_made_harmless() {
        let evil = known(&["a>b|c?d\"e'f,g\\h\n\u{202e}i"], Quality::Exact);
        assert_eq!(write(evil, ELSEWHERE, Miss::Nothing).unwrap(), "a_b_c_d_e_f_g_h__i");
    }

    #[test]
    fn sixty_five_bytes_are_never_exceeded_and_marks_never_lost() {
        let long = "ü".repeat(60);
        for quality in Quality::ALL {
            for (source, destination) in [
                (known(&[&long], quality), known(&[&long, "b", "c"], quality)),
                (known(&[&long], quality), known(&["short"], quality)),
                (known(&["short"], quality), known(&[&long], quality)),
                (known(&[&long], quality), MISSED),
                (known(&[&long, "x"], quality), ELSEWHERE),
            ] {
                for miss in [Miss::Nothing, Miss::Reason] {
                    let name = write(source.clone(), destination.clone(), miss).unwrap();
                    assert!(name.len() <= MOST, "{name} has {}", name.len());
                    assert!(quality.is_observation() || name.contains('?'), "{name}");
                }
            }
        }
        let (a, b) = ("a".repeat(70), "b".repeat(10));
        let name = write(known(&[&a], Quality::Exact), known(&[&b], Quality::Exact), Miss::Nothing);
        assert_eq!(name.unwrap(), format!("{}>{b}", "a".repeat(54)));
    }

    #[test]
    fn a_template_takes_all_facts() {
        let template: Template =
            "{user}/{unit} {exe}[{pid}] {container} {quality}".parse().unwrap();
        let source = known(&["x"], Quality::Exact);
        let attribution = Attribution { source, destination: ELSEWHERE };
        let name = name(&attribution, &template, Miss::Nothing).unwrap();
        assert_eq!(name, "33/nginx.service /usr/sbin/x[42] - exact");
    }

    #[test]
    fn a_template_that_would_be_misread_is_refused() {
        for wrong in ["", "x", "{comm", "{what}", "{comm},{pid}", "{comm}>", "{comm}\"", "{comm}}"]
        {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
