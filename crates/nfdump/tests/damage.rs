//! Damaged files give an error with an offset, or flows; never a panic, and never an output that
//! cannot be read again.

mod corpus;

use corpus::{
    Seen, Xorshift, files, flows, good,
    made::{self, Choices, METHODS, Oddity},
    nfdump_is_installed, nfdump_lines, nfdump_reads, read,
    round_trip::holds,
    skip,
};

/// Whether `file` can be read; see [`holds`].
fn survives(case: &str, file: &[u8]) -> bool {
    holds(case, file, |_| Some("x".to_owned()))
}

#[test]
fn a_file_cut_anywhere_gives_flows_from_its_start_and_an_error() {
    for (name, file) in good() {
        let whole = flows(&file);
        for length in 0..file.len() {
            let (seen, error) = read(&file[..length]);
            let error = error.unwrap_or_else(|| panic!("{name} cut at {length}: accepted"));
            assert!(error.offset() <= length as u64, "{name} cut at {length}: {error}");
            assert!(whole.starts_with(&seen), "{name} cut at {length}: other flows");
        }
        // Some lengths of the rest, and the last of all, are rewritten as well.
        let step = file.len() / 50 + 1;
        for length in (0..file.len()).step_by(step).chain(file.len() - 3..file.len()) {
            let case = format!("{name} cut at {length}");
            assert!(!survives(&case, &file[..length]), "{case}: accepted");
        }
    }
}

#[test]
fn of_a_file_cut_short_nfdump_prints_the_same_flows_or_none() {
    if !nfdump_is_installed() {
        return;
    }
    let mut printed = 0;
    for (name, file) in good() {
        if !nfdump_reads(&name) {
            continue;
        }
        let step = file.len() / 8 + 1;
        for length in (step..file.len()).step_by(step).chain(file.len() - 2..file.len()) {
            let mut theirs = nfdump_lines(&file[..length]);
            // Records without element 1 or addresses, which are not flows here.
            theirs.retain(|line| !line.contains("|0.0.0.0|0.0.0.0|"));
            let ours: Vec<String> = read(&file[..length]).0.iter().map(Seen::line).collect();
            assert!(theirs == ours || theirs.is_empty(), "{name} cut at {length}");
            printed += theirs.len();
        }
    }
    assert!(printed > 0 || good().is_empty(), "nfdump printed nothing of any");
}

/// The most this process held so far, in KiB; nothing where the system does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The first small file with a few flows among those that `make` makes of one run of choices after
/// the other.
fn small(make: impl Fn(&mut Choices<'_>) -> Vec<u8>) -> Vec<u8> {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    loop {
        let bytes: Vec<u8> = (0..200).map(|_| random.below(256) as u8).collect();
        let file = make(&mut Choices::new(&bytes));
        if file.len() < 700 && flows(&file).len() > 1 {
            return file;
        }
    }
}

#[test]
fn any_bit_flipped_is_refused_or_carried_through_in_bounded_memory() {
    let (mut accepted, mut refused) = (0, 0);
    let mut flip = |case: String, file: &[u8], skipped: std::ops::Range<usize>| {
        for bit in (0..file.len() * 8).filter(|bit| !skipped.contains(&(bit / 8))) {
            let mut flipped = file.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if survives(&format!("{case}, bit {bit} flipped"), &flipped) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
    };
    for method in 0..METHODS {
        let file = small(|choices| made::layout_2(choices, method, Oddity::Agreed));
        flip(format!("layout 2, method {method}"), &file, 0..0);
    }
    for method in 0..METHODS - 1 {
        let file = small(|choices| made::layout_1(choices, method, Oddity::Agreed));
        // Not all of the ident and the statistics, which are merely carried.
        flip(format!("layout 1, method {method}"), &file, 20..272);
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
    // Buffers of 5 MiB for each of the tests that run at a time, and the corpus.
    match peak() {
        Some(peak) => assert!(peak < 200 * 1024, "{peak} KiB were held"),
        None => skip(format_args!("no VmHWM in /proc/self/status, memory is not looked at")),
    }
}

#[test]
fn a_file_with_flipped_bytes_is_refused_or_carried_through() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for (name, file) in good() {
        for round in 0..100 {
            let mut damaged = file.clone();
            let mut places = Vec::new();
            for _ in 0..=random.below(3) {
                // Half of the hits go where the structure is: headers and the first records.
                let bound = if round % 2 == 0 { damaged.len().min(500) } else { damaged.len() };
                let at = random.below(bound);
                damaged[at] = random.below(256) as u8;
                places.push(at);
            }
            if survives(&format!("{name} with {places:?} changed, round {round}"), &damaged) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(accepted + refused == 0 || (accepted > 500 && refused > 500), "{accepted} {refused}");
}

#[test]
fn bad_files_survive_further_damage() {
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    for (name, file) in files("nfdump", |name| name.starts_with("bad-or-edge")) {
        for round in 0..60 {
            let mut damaged = file.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(400);
                damaged[at] ^= 1 << random.below(8);
            }
            survives(&format!("{name}, round {round}"), &damaged);
        }
    }
}

#[test]
fn lengths_that_a_file_merely_claims_are_not_allocated() {
    // A block of 5 MiB claimed, 4 bytes there.
    let mut file = vec![0x0c, 0xa5, 2, 0];
    file.resize(40, 0);
    file[36] = 1;
    file.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0x50, 0, 3, 0, 0, 0, 11, 0, 99, 0]);
    let (seen, error) = read(&file);
    assert!(seen.is_empty());
    assert_eq!(
        error.unwrap().to_string(),
        "block 0 at offset 40: truncated: the block's payload needs 5242880 bytes, 4 are left"
    );
    file[46] = 0x51;
    let (_, error) = read(&file);
    assert_eq!(
        error.unwrap().to_string(),
        "block 0 at offset 40: block of 5308416 bytes on disk; nfdump reads at most 5 MiB"
    );
}
