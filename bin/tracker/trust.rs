//! Whom this tracker trusts: its own key, the updaters it lets in, and the local key that makes
//! the first steps on one host work by themselves.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use procflow_store::StateDirectory;
use procflow_wire::{Admission, PublicKey, SecretKey};

use crate::failure::Failure;

const AUTHORIZED: &str = "authorized_updaters";

/// The tracker's keys and whom it lets in.
pub(crate) struct Trust {
    pub(crate) own: SecretKey,
    local: PublicKey,
    state: StateDirectory,
    cache: Mutex<Cache>,
    refused: AtomicU64,
    quiet: bool,
}

/// `authorized_updaters` as it was when last looked at.
#[derive(Default)]
struct Cache {
    stamp: Option<(SystemTime, u64, u64)>,
    keys: BTreeSet<PublicKey>,
    /// When a refusal was last said, and how many were not since.
    said: Option<Instant>,
    unsaid: u64,
}

impl Trust {
    /// Reads the keys, and makes those that are missing.
    pub(crate) fn open(state: StateDirectory, quiet: bool) -> Result<Self, Failure> {
        let own = secret(&state, "tracker.key", 0o600)?;
        let line = format!("{}\n", own.public());
        if state.read("tracker.pub")?.as_ref() != Some(&line) {
            state.replace("tracker.pub", &line, 0o644)?;
        }
        let local = secret(&state, "local.key", 0o640)?.public();
        let (cache, refused) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { own, local, state, cache, refused, quiet })
    }

    /// Where the keys are.
    pub(crate) fn state(&self) -> &StateDirectory {
        &self.state
    }

    /// Adds a line to `authorized_updaters`.
    pub(crate) fn authorize(&self, line: &str) -> Result<PublicKey, Failure> {
        let line = line.trim();
        let key: PublicKey = line.parse()?;
        let _alone = self.state.alone()?;
        if line.chars().any(char::is_control) {
            return Err(procflow_wire::KeyError::Line.into());
        }
        let mut text = self.state.read(AUTHORIZED)?.unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if !parse(&text, |_, _| ()).contains(&key) {
            text.push_str(line);
            text.push('\n');
            self.state.replace(AUTHORIZED, &text, 0o600)?;
        }
        Ok(key)
    }

    /// Where `authorized_updaters` is.
    pub(crate) fn authorized_file(&self) -> PathBuf {
        self.state.file(AUTHORIZED)
    }

    /// Whether any updater is authorised, so that other hosts are served.
    pub(crate) fn anyone_authorized(&self) -> bool {
        !self.with_authorized(BTreeSet::is_empty)
    }

    /// Whether this is the key of updaters on this host, which is good over loopback only.
    pub(crate) fn is_local(&self, key: PublicKey) -> bool {
        key == self.local && !self.with_authorized(|keys| keys.contains(&key))
    }

    /// Whether this key may connect.
    pub(crate) fn knows(&self, key: PublicKey) -> bool {
        key == self.local || self.with_authorized(|keys| keys.contains(&key))
    }

    /// How many handshakes were refused for their key.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The authorised keys; the file is read again when it has changed, so that authorising takes
    /// no restart.
    fn with_authorized<T>(&self, look: impl FnOnce(&BTreeSet<PublicKey>) -> T) -> T {
        let path = self.authorized_file();
        let stamp = std::fs::metadata(&path)
            .and_then(|meta| Ok((meta.modified()?, meta.len(), meta.ino())))
            .ok();
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.stamp != stamp {
            match self.state.read(AUTHORIZED) {
                Ok(text) => {
                    cache.stamp = stamp;
                    cache.keys = parse(&text.unwrap_or_default(), |number, error| {
                        eprintln!("tracker: {}:{number}: {error}; line ignored", path.display());
                    });
                }
                // Who cannot be read about is not let in; it is tried again at the next question.
                Err(error) => {
                    if !cache.keys.is_empty() {
                        eprintln!("tracker: {error}; nobody is let in until it can be read");
                    }
                    cache.keys.clear();
                    cache.stamp = None;
                }
            }
        }
        look(&cache.keys)
    }
}

impl Admission for Trust {
    fn admits(&self, key: PublicKey) -> bool {
        if self.knows(key) {
            return true;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        // Once a second: strangers make their keys for nothing. Said without the lock, because
        // whoever reads standard error may be slow.
        let unsaid = {
            let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if cache.said.is_some_and(|said| said.elapsed() < Duration::from_secs(1)) {
                cache.unsaid += 1;
                return false;
            }
            cache.said = Some(Instant::now());
            std::mem::take(&mut cache.unsaid)
        };
        if !self.quiet {
            let more = match unsaid {
                0 => String::new(),
                unsaid => format!(" ({unsaid} more since the last)"),
            };
            let fingerprint = key.fingerprint();
            let _ = writeln!(
                std::io::stderr(),
                "tracker: refused an updater with the unknown key {fingerprint}{more}; to let it \
                 in: tracker --authorize '{key}'"
            );
        }
        false
    }
}

fn secret(state: &StateDirectory, name: &str, mode: u32) -> Result<SecretKey, Failure> {
    let fresh = SecretKey::generate()?;
    let pem = state.secret(name, mode, || fresh.to_pem())?;
    SecretKey::from_pem(&pem)
        .map_err(|error| Failure::Key { path: state.file(name), source: error })
}

/// The keys of a list: a line each, `#` begins a comment line.
fn parse(
    text: &str,
    mut complain: impl FnMut(usize, procflow_wire::KeyError),
) -> BTreeSet<PublicKey> {
    let mut keys = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(key) => drop(keys.insert(key)),
            Err(error) => complain(index + 1, error),
        }
    }
    keys
}
