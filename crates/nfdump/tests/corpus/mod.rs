//! The corpus: files other programs wrote, and nfdump itself as the judge of ours.
//!
//! The files are not part of the project; where they, or nfdump, are absent, tests say SKIPPED.

#![allow(dead_code)]

pub(crate) mod made;
pub(crate) mod round_trip;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use procflow_nfdump::{Error, Flow, Reader};

/// The files in a folder of the corpus whose names `wanted` accepts, sorted.
pub(crate) fn files(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(folder);
    let Ok(entries) = fs::read_dir(&path) else {
        skip(format_args!("no corpus at {}", path.display()));
        return Vec::new();
    };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| wanted(name))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus at {} has none of these files", path.display());
    files
}

/// Every file of layouts 1 and 2 that has nothing wrong with it.
pub(crate) fn good() -> Vec<(String, Vec<u8>)> {
    let mut good = files("nfdump", |name| {
        (name.starts_with("l1-") || name.starts_with("l2-")) && !name.contains("inprogress")
    });
    good.extend(files("netdumper/profiles/01", |_| true));
    good
}

/// A flow that outlives its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) received_ms: Option<u64>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
    pub(crate) tcp_flags: u8,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) anonymised: bool,
    pub(crate) exporter: u16,
    pub(crate) name: Option<Vec<u8>>,
}

impl Seen {
    pub(crate) fn of(flow: &Flow<'_>) -> Self {
        Self {
            first_ms: flow.first_ms,
            last_ms: flow.last_ms,
            received_ms: flow.received_ms,
            source: flow.source,
            destination: flow.destination,
            source_port: flow.source_port,
            destination_port: flow.destination_port,
            protocol: flow.protocol,
            tcp_flags: flow.tcp_flags,
            packets: flow.packets,
            bytes: flow.bytes,
            anonymised: flow.anonymised,
            exporter: flow.exporter,
            name: flow.user_name.map(<[u8]>::to_vec),
        }
    }

    pub(crate) fn named(&self, name: Option<&str>) -> Self {
        Self { name: name.map(|name| name.as_bytes().to_vec()), ..self.clone() }
    }

    /// The line that nfdump prints with [`FORMAT`].
    pub(crate) fn line(&self) -> String {
        let flags = "CEUAPRSF".chars().enumerate();
        let flags: String = flags
            .map(|(bit, flag)| if self.tcp_flags & 0x80 >> bit != 0 { flag } else { '.' })
            .collect();
        let port = match self.protocol {
            1 | 58 => format!("{}.{}", self.destination_port >> 8, self.destination_port & 255),
            _ => self.destination_port.to_string(),
        };
        let name = match &self.name {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None => "<empty>".to_owned(),
        };
        [
            time(self.first_ms),
            time(self.last_ms),
            time(self.received_ms.unwrap_or(0)),
            self.source.to_string(),
            self.destination.to_string(),
            self.source_port.to_string(),
            port,
            self.protocol.to_string(),
            flags,
            self.packets.to_string(),
            self.bytes.to_string(),
            self.exporter.to_string(),
            name,
        ]
        .join("|")
    }
}

/// What nfdump is asked to print of each flow; see [`Seen::line`].
pub(crate) const FORMAT: &str = "fmt:%ts|%te|%tr|%sa|%da|%sp|%dp|%pr|%flg|%ipkt|%ibyt|%exp|%uname";

/// Unix milliseconds as nfdump prints them in UTC.
fn time(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    format!(
        "{year}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        month + 1,
        left + 1,
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

/// The flows of a file as far as it can be read, and why no further.
pub(crate) fn read(file: &[u8]) -> (Vec<Seen>, Option<Error>) {
    let mut flows = Vec::new();
    let error = read_into(file, &mut flows).err();
    (flows, error)
}

fn read_into(file: &[u8], flows: &mut Vec<Seen>) -> Result<(), Error> {
    let mut reader = Reader::new(file)?;
    while let Some(block) = reader.next_block()? {
        for record in block {
            flows.extend(record?.flow.as_ref().map(Seen::of));
        }
    }
    Ok(())
}

/// The flows of a file that has nothing wrong with it.
pub(crate) fn flows(file: &[u8]) -> Vec<Seen> {
    let (flows, error) = read(file);
    assert!(error.is_none(), "{}", error.unwrap());
    flows
}

/// A file on disk for nfdump to read, gone when dropped.
pub(crate) struct OnDisk(PathBuf);

impl OnDisk {
    pub(crate) fn new(file: &[u8]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("procflow-nfdump-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, file).unwrap();
        Self(path)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether nfdump is here to be asked.
pub(crate) fn nfdump_is_installed() -> bool {
    let installed = Command::new("nfdump").arg("-V").output().is_ok();
    if !installed {
        skip(format_args!("nfdump is not installed"));
    }
    installed
}

/// What nfdump prints, and whether it is content.
fn nfdump(file: &[u8], option: &str, more: &[&str]) -> (String, bool) {
    let on_disk = OnDisk::new(file);
    let output = Command::new("nfdump")
        .arg(option)
        .arg(&on_disk.0)
        .args(more)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// The lines nfdump prints with [`FORMAT`], the blanks around the columns removed.
pub(crate) fn nfdump_lines(file: &[u8]) -> Vec<String> {
    let (printed, _) = nfdump(file, "-r", &["-q", "-6", "-N", "-o", FORMAT]);
    printed
        .lines()
        .filter(|line| line.contains('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect()
}

/// All nfdump knows of each flow, names apart: its CSV has no column for them.
pub(crate) fn nfdump_csv(file: &[u8]) -> String {
    nfdump(file, "-r", &["-q", "-o", "csv"]).0
}

/// Asserts that `nfdump -v` finds nothing wrong.
pub(crate) fn nfdump_verifies(name: &str, file: &[u8]) {
    let (printed, success) = nfdump(file, "-v", &[]);
    assert!(success, "{name}: {printed}");
    for complaint in ["Extra data", "num records", "Invalid", "Expected", "Corrupt"] {
        assert!(!printed.contains(complaint), "{name}: {printed}");
    }
}

/// nfdump 1.7.1, which is what is asked, cannot read zstd and shows no flows.
pub(crate) fn nfdump_reads(name: &str) -> bool {
    !name.contains("zstd")
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Xorshift(pub(crate) u64);

impl Xorshift {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
pub(crate) fn skip(why: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
