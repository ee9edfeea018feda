//! Files made up come back from a rewrite as [`corpus::round_trip`] says, whatever they hold.

mod corpus;

use corpus::{
    Seen, flows,
    made::{self, Choices, METHODS, Oddity},
    nfdump_csv, nfdump_is_installed, nfdump_lines, nfdump_verifies,
    round_trip::{holds, name_for, named, threads_agree},
};
use proptest::{collection::vec, prelude::*};

/// What choices are drawn from.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..1500)
}

/// So many cases; what fails is made smaller for some seconds at most, and kept by who reads it.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_made_file_comes_back(bytes in bytes(), salt in any::<u8>()) {
        let file = made::file(&mut Choices::new(&bytes), Oddity::Any);
        prop_assert!(holds("made", &file, |flow| name_for(flow, salt)), "made, but not read");
        threads_agree("made, threads", &file, |flow| name_for(flow, salt));
    }

    #[test]
    fn a_made_file_with_one_bit_flipped_comes_back_or_is_refused(
        bytes in bytes(),
        place in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut file = made::file(&mut Choices::new(&bytes), Oddity::Any);
        let at = place.index(file.len());
        file[at] ^= 1_u8 << bit;
        holds("flipped", &file, |flow| name_for(flow, 0));
        threads_agree("flipped, threads", &file, |flow| name_for(flow, 0));
    }

    #[test]
    fn a_made_file_cut_short_is_refused(bytes in bytes(), place in any::<prop::sample::Index>()) {
        let file = made::file(&mut Choices::new(&bytes), Oddity::Any);
        let cut = &file[..place.index(file.len())];
        prop_assert!(!holds("cut", cut, |flow| name_for(flow, 0)));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn nfdump_reads_a_made_file_as_before_and_the_names(bytes in bytes(), salt in any::<u8>()) {
        let file = made::file(&mut Choices::new(&bytes), Oddity::Agreed);
        if nfdump_is_installed() {
            nfdump_agrees(&file, salt);
        }
    }
}

/// Asserts that nfdump sees in the rewritten `file` what it saw before, and the names.
fn nfdump_agrees(file: &[u8], salt: u8) {
    let (output, _) = named(file, |flow| name_for(flow, salt)).unwrap();
    nfdump_verifies("made", &output);
    assert_eq!(nfdump_csv(&output), nfdump_csv(file));
    let lines = |flows: &[Seen]| flows.iter().map(Seen::line).collect::<Vec<_>>();
    assert_eq!(nfdump_lines(file), lines(&flows(file)));
    assert_eq!(nfdump_lines(&output), lines(&flows(&output)));
}

/// The id of the one map in a file.
const MAP: u16 = 3;

#[test]
fn every_element_of_layout_2_is_carried_through() {
    // Later ones than nfdump has, too.
    let bytes: Vec<u8> = (0..200_u32).map(|at| (at * 7 % 251) as u8).collect();
    for id in (0..made::KNOWN_ELEMENTS + 3).chain([0x7fff, 0xffff]) {
        let mut choices = Choices::new(&bytes);
        let mut elements = made::who(&mut choices);
        elements.push(match id {
            0..made::KNOWN_ELEMENTS => made::known_element(id, &mut choices),
            _ => made::record(id, &[1, 2, 3, 4, 5]),
        });
        let plain = made::flow_2(&elements);
        for method in 0..METHODS {
            let file = made::layout_2_of(&[(1, plain.clone())], method);
            let case = format!("element {id}, method {method}");
            assert!(holds(&case, &file, |_| Some("ntpd".to_owned())), "{case}");
            assert_eq!(flows(&file).len(), 1, "{case}");
        }
    }
}

#[test]
fn every_extension_of_layout_1_is_carried_through() {
    let all: Vec<(u16, u8)> = made::known_extensions().collect();
    assert_eq!((all[0].0, all[45].0), (4, 49));
    let alone = all.iter().map(|&one| vec![one]);
    for listed in alone.chain([all.clone()]) {
        let ids: Vec<u16> = listed.iter().map(|&(id, _)| id).collect();
        let size: usize = listed.iter().map(|&(_, size)| usize::from(size)).sum();
        let extensions: Vec<u8> = (0..size).map(|at| (at % 71) as u8).collect();
        let mut choices = Choices::new(&[]);
        let plain =
            [made::map_1(MAP, &ids, 0), made::flow_1(&mut choices, MAP, &extensions, Oddity::Any)];
        for method in 0..METHODS - 1 {
            let file = made::layout_1_of(&[(2, plain.concat())], method);
            let case = format!("extensions {ids:?}, method {method}");
            assert!(holds(&case, &file, |_| Some("ntpd".to_owned())), "{case}");
            let (output, _) = named(&file, |_| Some("ntpd".to_owned())).unwrap();
            assert_eq!(flows(&output)[0].name.as_deref(), Some(&b"ntpd"[..]), "{case}");
        }
    }
}
