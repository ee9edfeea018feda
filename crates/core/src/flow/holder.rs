//! Who was at an end of a flow: what whoever knows it (a history of sockets) has said, carried along to the
//! columns. Nothing is decided here.

/// Who was at one end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// What kind of answer it is: known, kernel, ambiguous or unknown.
    pub answer: &'static str,
    /// How it is known, or why it is not.
    pub why: String,
    /// How many processes the answer names or considers.
    pub processes: u32,
    /// Their ids.
    pub pids: Vec<u32>,
    /// Their command names; of several, one after the other with `|` in between, like all that follows.
    pub name: Option<String>,
    /// Their executables.
    pub executable: Option<String>,
    /// Their users, by name where they have one.
    pub user: Option<String>,
    /// Their systemd units.
    pub unit: Option<String>,
    /// Their containers.
    pub container: Option<String>,
}
