//! The model of the example `classify` is what its training gives, and is read back as it was written.

use std::path::Path;

#[path = "../examples/classify/beginning.rs"]
mod beginning;
#[path = "../examples/classify/lessons.rs"]
mod lessons;
#[path = "../examples/classify/tree.rs"]
mod tree;

use beginning::Beginning;
use lessons::Lessons;
use tree::{Growth, Lesson, Tree};

const MODEL: &str = include_str!("../examples/classify/model.txt");

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

#[test]
fn the_model_is_what_training_gives() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap/nfstream");
    if !captures.is_dir() {
        return skip(&format!("no captures at {}", captures.display()));
    }
    let lessons = Lessons::of(&captures).unwrap();
    assert!(lessons.learned.len() > 100 && lessons.held_out.len() > 50);
    assert_eq!(lessons.teach(), MODEL);
}

fn lesson(sizes: [i32; 4], label: &str) -> Lesson {
    Lesson { beginning: Beginning(sizes), label: label.to_owned(), capture: 0 }
}

#[test]
fn a_tree_asks_what_tells_flows_apart() {
    let mut lessons = vec![lesson([517, -1400, 0, 0], "TLS"); 4];
    lessons.extend([(); 3].map(|()| lesson([40, -80, 0, 0], "DNS")));
    lessons.extend([(); 5].map(|()| lesson([42, 0, 0, 0], "other")));
    let tree = Tree::learn(&lessons, Growth { depth: 5, least: 3 });
    // By hand, the impurity that is left: size_1 parts 3 DNS from 4 TLS and 5 other, 9 - (16 + 25) / 9 =
    // 4.44, or 4 TLS from the others, 8 - (9 + 25) / 8 = 3.75; size_2 the same, or 5 other from 3 DNS and
    // 4 TLS, 7 - (9 + 16) / 7 = 3.43, which is the least.
    let expected = "\
0 size_2 <= -40 then 1 else 4
1 size_1 <= 278 then 2 else 3
2 DNS 3 of 3
3 TLS 4 of 4
4 other 5 of 5
";
    assert_eq!(tree.to_string(), expected);
    assert_eq!(expected.parse(), Ok(tree));
}

#[test]
fn a_tree_is_read_as_it_was_written_and_nothing_else_is() {
    let tree: Tree = MODEL.parse().unwrap();
    let text: String =
        MODEL.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(tree.to_string(), text);
    for wrong in [
        "",
        "1 DNS 1 of 1",
        "0 DNS 2 of 1",
        "0 DNS 0 of 0",
        "0 size_1 <= 5 then 0 else 0",
        "0 size_1 <= 5 then 1 else 2\n1 DNS 1 of 1",
        "0 size_0 <= 5 then 1 else 1\n1 DNS 1 of 1",
        "0 size_5 <= 5 then 1 else 1\n1 DNS 1 of 1",
        "0 size_1 <= x then 1 else 1\n1 DNS 1 of 1",
    ] {
        assert!(wrong.parse::<Tree>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_guess_comes_with_its_share() {
    let tree: Tree = "0 size_2 <= -1 then 1 else 2\n1 DNS 3 of 4\n2 other 1 of 1".parse().unwrap();
    let guess = |sizes| tree.guess(&Beginning(sizes)).map(|guess| (guess.label, guess.share));
    assert_eq!(guess([40, -80, 0, 0]), Some(("DNS", 0.75)));
    assert_eq!(guess([40, 0, 0, 0]), Some(("other", 1.0)));
}
