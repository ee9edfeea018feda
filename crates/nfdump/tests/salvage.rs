//! What is salvaged is a whole file to nfdump, with the flows that we say.

mod corpus;

use std::io::Cursor;

use corpus::{
    Seen, Xorshift, files, flows, good, nfdump_is_installed, nfdump_lines, nfdump_reads,
    nfdump_verifies, read,
};
use procflow_nfdump::{Compression, Reader, Salvaged, salvage};

fn salvaged(file: &[u8]) -> Option<(Vec<u8>, Salvaged)> {
    let mut output = Cursor::new(Vec::new());
    let done = salvage(Cursor::new(file), &mut output, |_| {}).ok()?;
    Some((output.into_inner(), done))
}

/// Salvages a file, and asks nfdump what it thinks of the result if that is wanted.
#[track_caller]
fn check(case: &str, file: &[u8], ask: bool) -> Option<Vec<Seen>> {
    let (whole, done) = salvaged(file)?;
    let kept = flows(&whole);
    let (before, _) = read(file);
    assert!(kept.len() >= before.len() || done.losses > 0, "{case}");
    let again = salvaged(&whole).unwrap();
    assert_eq!(again.1.losses, 0, "{case}");
    assert!(again.0 == whole, "{case}");
    if ask {
        nfdump_verifies(case, &whole);
        let ours: Vec<String> = kept.iter().map(Seen::line).collect();
        let mut theirs = nfdump_lines(&whole);
        // nfdump prints zeros for records without addresses.
        theirs.retain(|line| !line.contains("|0.0.0.0|0.0.0.0|"));
        assert_eq!(columns(&ours), columns(&theirs), "{case}");
    }
    Some(kept)
}

/// Source port, packets and bytes: damage makes addresses, times and names that nfdump writes in
/// another way than we do. Without those it has zeros, for records without element 1.
fn columns(lines: &[String]) -> Vec<[&str; 3]> {
    let split = lines.iter().map(|line| line.split('|').collect::<Vec<_>>());
    let columns = split.map(|columns| [columns[5], columns[9], columns[10]]);
    columns.filter(|columns| *columns != ["0"; 3]).collect()
}

#[test]
fn good_files_lose_nothing() {
    for (name, file) in good() {
        let (whole, done) = salvaged(&file).unwrap();
        assert_eq!((done.losses, done.missing, done.unknown), (0, 0, 0), "{name}");
        assert_eq!(flows(&whole), flows(&file), "{name}");
        let ident = |file: &[u8]| {
            let mut reader = Reader::new(file).unwrap();
            while reader.next_block().unwrap().is_some() {}
            reader.ident().map(<[u8]>::to_vec)
        };
        assert_eq!(ident(&whole), ident(&file), "{name}");
        if !name.contains("nfgen") {
            assert_eq!(done.stat_before.unwrap_or_default(), done.stat, "{name}");
            // nfdump 1.7.5 and later round the ident up to an even length.
            let plain = Reader::new(&file[..]).unwrap().header().compression() == Compression::None;
            assert!(whole == file || !plain || whole.len() == file.len() - 1, "{name}");
        }
    }
}

#[test]
fn files_cut_anywhere_are_whole_again() {
    let asked = nfdump_is_installed();
    for (name, file) in good() {
        let step = file.len() / 20 + 1;
        for (i, length) in (0..file.len()).step_by(step).enumerate() {
            let ask = asked && nfdump_reads(&name) && i % 10 == 7;
            let kept = check(&format!("{name} cut at {length}"), &file[..length], ask);
            assert!(kept.is_some() || length < 276, "{name} cut at {length}");
            let (before, _) = read(&file[..length]);
            assert!(kept.is_none_or(|kept| kept.starts_with(&before)), "{name} cut at {length}");
        }
    }
}

#[test]
fn files_with_changed_bits_are_whole_again() {
    let asked = nfdump_is_installed();
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut bad = good();
    bad.extend(files("nfdump", |name| name.starts_with("bad-or-edge")));
    let mut kept = 0;
    for (name, file) in bad {
        for round in 0..12 {
            let mut damaged = file.clone();
            let mut places = Vec::new();
            for _ in 0..=random.below(2) {
                let bound = if round % 2 == 0 { damaged.len().min(500) } else { damaged.len() };
                // Behind the magic and the layout.
                let (at, bit) = (4 + random.below(bound - 4), random.below(8));
                damaged[at] ^= 1 << bit;
                places.push((at, bit));
            }
            let ask = asked && nfdump_reads(&name) && round % 6 == 3 && damaged[16] < 4;
            let case = format!("{name} with {places:?} changed, round {round}");
            kept += check(&case, &damaged, ask).map_or(0, |flows| flows.len());
        }
    }
    assert!(kept == 0 || kept > 20_000, "{kept}");
}

#[test]
fn bad_files_become_good_ones() {
    let asked = nfdump_is_installed();
    for (name, file) in files("nfdump", |name| name.starts_with("bad-or-edge")) {
        let kept = check(&name, &file, asked).unwrap().len();
        let expected = match &name[14..name.len() - 7] {
            // Its flows are wrong inside, each of them.
            "nobump" | "badsize" => continue,
            "trunc2" => 1..160,
            // A block that is not compressed in a file that is.
            "mix" => continue,
            _ => 160..161,
        };
        assert!(expected.contains(&kept), "{name}: {kept}");
    }
}
