//! Damaged files give an error with an offset, or flows; never a panic, and never an output that
//! cannot be read again.

mod corpus;

use std::io::Cursor;

use corpus::{Xorshift, files, flows, good, read};
use procflow_nfdump::rewrite;

/// Reads and rewrites `file`; whether that was possible.
fn survives(case: &str, file: &[u8]) -> bool {
    let (seen, error) = read(file);
    let mut same = Cursor::new(Vec::new());
    let copied = rewrite(file, &mut same, |_, _| {});
    let mut named = Cursor::new(Vec::new());
    let renamed = rewrite(file, &mut named, |_, name| name.set("x"));
    match (copied, renamed) {
        (Ok(copied), Ok(renamed)) => {
            assert!(error.is_none(), "{case}: rewritten, but not read");
            assert!(same.get_ref() == file, "{case}: not the same");
            assert_eq!(flows(same.get_ref()), seen, "{case}");
            assert_eq!(copied.flows, seen.len() as u64, "{case}");
            let expected: Vec<_> = seen.iter().map(|flow| flow.named(Some("x"))).collect();
            assert_eq!(flows(named.get_ref()), expected, "{case}");
            assert_eq!(renamed.named, seen.len() as u64, "{case}");
            true
        }
        (Err(copied), Err(renamed)) => {
            for error in [copied, renamed].iter().chain(&error) {
                assert!(error.offset() <= file.len() as u64, "{case}: {error}");
                assert!(error.to_string().contains("at offset "), "{case}: {error}");
            }
            false
        }
        (copied, renamed) => panic!("{case}: {copied:?} but {renamed:?}"),
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for (name, file) in good() {
        // Every length of the small ones, some of the others, and the last of all.
        let step = file.len() / 200 + 1;
        let lengths = (0..file.len()).step_by(step).chain(file.len() - 3..file.len());
        for length in lengths {
            let case = format!("{name} cut at {length}");
            assert!(!survives(&case, &file[..length]), "{case}: accepted");
        }
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
