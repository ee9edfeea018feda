//! Whom a reader of trackers trusts: its own key, the trackers it knows, and the local key of a tracker
//! on the same host. All programs of a user that read trackers are one reader: the updater.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use procflow_store::{StateDirectory, StateError, default_state};
use procflow_wire::{Admission, KeyError, PublicKey, SecretKey};

const KNOWN: &str = "known_trackers";

/// Trust could not be established.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message says")]
pub enum TrustError {
    /// The state directory cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is there is no key.
    #[error("{}: {source}", path.display())]
    Key { path: PathBuf, source: KeyError },
    /// There is no place for a state directory.
    #[error("no home directory; say where to keep keys with --state DIR")]
    NoHome,
    /// No key can be made.
    #[error(transparent)]
    Make(#[from] KeyError),
}

/// A reader's keys and lists.
#[derive(Debug)]
pub struct Trust {
    state: StateDirectory,
    own: SecretKey,
    tracker_states: Vec<PathBuf>,
}

/// How to talk to one tracker.
pub(crate) struct Introduction {
    pub(crate) identity: SecretKey,
    pub(crate) check: Check,
    /// A local key that could have been used, if this user were allowed to read it.
    pub(crate) closed_to_us: Option<PathBuf>,
}

/// Compares a tracker's key with what is expected, and remembers what it was.
#[derive(Debug)]
pub(crate) struct Check {
    expected: Expected,
    seen: Mutex<Option<PublicKey>>,
}

/// Which key a tracker must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This one, and where that is written.
    Key(PublicKey, PathBuf),
    /// One with this fingerprint.
    Fingerprint(String),
    /// Any; the user said so.
    Any,
    /// It is not known yet, and nobody said to trust it.
    Unknown,
}

/// What the user said about trackers that are not known yet.
#[derive(Clone, Debug)]
pub enum Newcomers {
    /// They are not trusted.
    Refuse,
    /// They are, whatever their keys are, and remembered.
    Trust,
    /// The one is whose key has this fingerprint, and remembered.
    TrustFingerprint(String),
}

impl Newcomers {
    /// As users say it: the one with a fingerprint, or any.
    #[must_use]
    pub fn of(fingerprint: Option<&str>, any: bool) -> Self {
        match (fingerprint, any) {
            (Some(fingerprint), _) => Self::TrustFingerprint(fingerprint.to_owned()),
            (None, true) => Self::Trust,
            (None, false) => Self::Refuse,
        }
    }
}

impl Trust {
    /// Opens the state directory of the user's updater, or the one that is named, and looks for a
    /// tracker's on this host where one is named, or else where trackers have theirs.
    ///
    /// # Errors
    /// When there is none, or its key cannot be read or made.
    pub fn of_user(state: Option<&Path>, tracker: Option<&Path>) -> Result<Self, TrustError> {
        let default = || default_state("updater").ok_or(TrustError::NoHome);
        let state = state.map(Path::to_owned).map_or_else(default, Ok)?;
        let state = StateDirectory::open(&state, None)?;
        let trackers = match tracker {
            Some(directory) => vec![directory.to_owned()],
            None => {
                let own = default_state("tracker");
                let all = [Some(PathBuf::from("/var/lib/procflow/tracker")), own];
                all.into_iter().flatten().collect()
            }
        };
        Self::open(state, trackers)
    }

    /// Reads the key, and makes it if it is missing. In `tracker_states`, state directories of trackers
    /// on this host, a local key may be found.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub fn open(state: StateDirectory, tracker_states: Vec<PathBuf>) -> Result<Self, TrustError> {
        let name = "updater.key";
        let fresh = SecretKey::generate()?;
        let pem = state.secret(name, 0o600, || fresh.to_pem())?;
        let own = read_key(&pem, &state.file(name))?;
        Ok(Self { state, own, tracker_states })
    }

    /// This reader's own key.
    #[must_use]
    pub fn own(&self) -> PublicKey {
        self.own.public()
    }

    /// Where keys and lists are.
    #[must_use]
    pub fn state(&self) -> &StateDirectory {
        &self.state
    }

    pub(crate) fn known_file(&self) -> PathBuf {
        self.state.file(KNOWN)
    }

    /// How to talk to the tracker of this name, at this address.
    pub(crate) fn introduce(
        &self,
        name: &str,
        address: IpAddr,
        newcomers: &Newcomers,
    ) -> Result<Introduction, TrustError> {
        let own = || read_key(&self.own.to_pem(), Path::new("updater.key"));
        let check = |expected| Check { expected, seen: Mutex::new(None) };
        let known = self.known()?;
        if let Some((_, key)) = known.iter().find(|(known, _)| known == name) {
            let check = check(Expected::Key(*key, self.known_file()));
            return Ok(Introduction { identity: own()?, check, closed_to_us: None });
        }
        let mut closed_to_us = None;
        if address.to_canonical().is_loopback() && matches!(newcomers, Newcomers::Refuse) {
            for directory in &self.tracker_states {
                match local(directory)? {
                    Local::Open(identity, tracker) => {
                        let place = directory.join("tracker.pub");
                        let check = check(Expected::Key(tracker, place));
                        return Ok(Introduction { identity, check, closed_to_us: None });
                    }
                    Local::Closed => closed_to_us = Some(directory.join("local.key")),
                    Local::Absent => {}
                }
            }
        }
        let expected = match newcomers {
            Newcomers::Refuse => Expected::Unknown,
            Newcomers::Trust => Expected::Any,
            Newcomers::TrustFingerprint(fingerprint) => Expected::Fingerprint(fingerprint.clone()),
        };
        Ok(Introduction { identity: own()?, check: check(expected), closed_to_us })
    }

    /// Remembers a tracker.
    pub(crate) fn remember(&self, name: &str, key: PublicKey) -> Result<(), TrustError> {
        let mut text = self.state.read(KNOWN)?.unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{name} {key}\n"));
        Ok(self.state.replace(KNOWN, &text, 0o600)?)
    }

    fn known(&self) -> Result<Vec<(String, PublicKey)>, TrustError> {
        let text = self.state.read(KNOWN)?.unwrap_or_default();
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (name, key) = line.split_once(' ').unwrap_or((line, ""));
                let key = key.parse();
                let key = key.map_err(|source| TrustError::Key { path: self.known_file(), source });
                Ok((name.to_owned(), key?))
            })
            .collect()
    }
}

enum Local {
    Open(SecretKey, PublicKey),
    /// It is there, but not for this user.
    Closed,
    Absent,
}

/// The local key of a tracker on this host.
fn local(directory: &Path) -> Result<Local, TrustError> {
    let read = |name: &str| {
        let path = directory.join(name);
        (std::fs::read_to_string(&path), path)
    };
    let (key, key_path) = read("local.key");
    let (tracker, tracker_path) = read("tracker.pub");
    let (key, tracker) = match (key, tracker) {
        (Ok(key), Ok(tracker)) => (key, tracker),
        (Err(error), _) | (_, Err(error))
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            return Ok(Local::Closed);
        }
        _ => return Ok(Local::Absent),
    };
    let tracker = tracker.parse();
    let tracker = tracker.map_err(|source| TrustError::Key { path: tracker_path, source })?;
    Ok(Local::Open(read_key(&key, &key_path)?, tracker))
}

fn read_key(pem: &str, path: &Path) -> Result<SecretKey, TrustError> {
    SecretKey::from_pem(pem).map_err(|source| TrustError::Key { path: path.to_owned(), source })
}

impl Check {
    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The key that the tracker showed, if it came to that.
    pub(crate) fn seen(&self) -> Option<PublicKey> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Check {
    fn admits(&self, key: PublicKey) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        match &self.expected {
            Expected::Key(expected, _) => *expected == key,
            Expected::Fingerprint(expected) => *expected == key.fingerprint(),
            Expected::Any => true,
            Expected::Unknown => false,
        }
    }
}
