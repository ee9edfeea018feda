//! First light: real traffic of real processes, captured by softflowd, stored by nfcapd, annotated
//! by us, read by nfdump.

mod lab;

use std::collections::BTreeMap;
use std::path::Path;

use lab::{Capture, Lab, Netns, Talk, Truth, equipped, final_files, nfdump};

#[test]
#[ignore = "not a test: what the lab's talkers run"]
fn talker() {
    lab::talk_if_asked();
}

/// Every flow with its name, keyed as nfdump prints it.
fn names(flows: &Path) -> BTreeMap<(String, String, String), String> {
    let lines = nfdump(flows, "fmt:%pr;%sa;%sp;%da;%dp;%uname");
    let mut names = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(';').map(str::trim).collect();
        let [protocol, source, source_port, destination, destination_port, name] = fields[..]
        else {
            panic!("{line}")
        };
        let source = format!("{source} {source_port}");
        let destination = format!("{destination} {destination_port}");
        let before = names.insert((protocol.to_owned(), source, destination), name.to_owned());
        assert!(before.is_none_or(|before| before == name), "one flow, two names: {line}");
    }
    names
}

fn key(truth: &Truth, from_client: bool) -> (String, String, String) {
    let text = |address: std::net::SocketAddr| format!("{} {}", address.ip(), address.port());
    let (client, server) = (text(truth.client), text(truth.server));
    let (source, destination) = if from_client { (client, server) } else { (server, client) };
    (truth.protocol.to_owned(), source, destination)
}

#[test]
fn a_hundred_sockets_carry_their_names_at_both_ends() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let netns = Netns::new("hundred");
    let tracker = lab.tracker();
    let capture = Capture::start(&lab, &netns, "flows");
    let vantage = format!("netns:{}", netns.0);
    let mut servers = Vec::new();
    let mut callers = Vec::new();
    for (family, address) in [("4", "127.0.0.1:0"), ("6", "[::1]:0")] {
        let name = format!("server-{family}");
        let mut server = Talk::start(&lab, Some(&netns), &name, &format!("serve {address}"));
        let address = server.address();
        for protocol in ["TCP", "UDP"] {
            for caller in ["alice", "bob"] {
                let name = format!("{caller}-{protocol}{family}");
                let what = format!("call {protocol} {address} 13 2.5");
                callers.push((
                    Talk::start(&lab, Some(&netns), &name, &what),
                    name,
                    server.name.clone(),
                ));
            }
        }
        servers.push(server);
    }
    let mut truths = Vec::new();
    for (caller, name, server) in callers {
        truths
            .extend(caller.truths().into_iter().map(|truth| (truth, name.clone(), server.clone())));
    }
    drop(servers);
    let flows = capture.finish();
    assert_eq!(truths.len(), 104);

    let before = nfdump(&flows, "csv");
    let plain = names(&flows);
    let arguments = ["--once", "--grace", "0s", "--slot", "1s", "--vantage", &vantage, "--dir"];
    let answer = lab.updater(arguments.iter().map(Path::new).chain([flows.as_path()])).ok();
    let named = names(&flows);
    let mut wrong = Vec::new();
    for (truth, client, server) in &truths {
        for (from_client, expected) in
            [(true, format!("{client}>{server}")), (false, format!("{server}>{client}"))]
        {
            let key = key(truth, from_client);
            assert!(plain.contains_key(&key), "the exporter did not see {key:?}");
            if named.get(&key) != Some(&expected) {
                wrong.push((key.clone(), named.get(&key).cloned(), expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, such as {:?}\n{answer:?}", wrong.len(), wrong[0]);

    // Nothing but the name has changed.
    let after = nfdump(&flows, "csv");
    assert_eq!(without_names(&before), without_names(&after));
    assert_ne!(plain, named);
    for file in final_files(&flows) {
        let check = std::process::Command::new("nfdump").arg("-v").arg(&file).output().unwrap();
        assert!(check.status.success(), "{check:?}");
    }
    // Once is enough: the next update changes nothing.
    let bytes = |files: &[std::path::PathBuf]| -> Vec<Vec<u8>> {
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    };
    let files = final_files(&flows);
    let first = bytes(&files);
    for more in [&[][..], &["--force"][..]] {
        let arguments = arguments.iter().copied().chain([flows.to_str().unwrap()]);
        lab.updater(arguments.chain(more.iter().copied())).ok();
        assert!(bytes(&files) == first, "a second pass with {more:?} changed something");
    }
    assert_eq!(tracker.stop(), Some(0));
}

/// nfdump's CSV without the column of the user name, which its header calls `un`. (Debian's does not
/// print it at all.)
fn without_names(lines: &[String]) -> Vec<String> {
    let column = lines[0].split(',').position(|title| title == "un");
    lines
        .iter()
        .map(|line| {
            let fields = line.split(',').enumerate().filter(|(i, _)| Some(*i) != column);
            fields.map(|(_, field)| field.trim()).collect::<Vec<_>>().join(",")
        })
        .collect()
}

#[test]
fn two_namespaces_with_the_same_addresses_never_mix() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (Netns::new("west"), Netns::new("east"));
    let _tracker = lab.tracker();
    let (capture_a, capture_b) = (Capture::start(&lab, &a, "a"), Capture::start(&lab, &b, "b"));
    // The same addresses and ports in both, at the same time.
    let mut talkers = Vec::new();
    for (netns, word) in [(&a, "west"), (&b, "east")] {
        let name = format!("server-{word}");
        let mut server = Talk::start(&lab, Some(netns), &name, "serve 127.0.0.1:7000");
        server.address();
        let name = format!("client-{word}");
        let what = "call TCP 127.0.0.1:7000 2.5 from 127.0.0.1:40000";
        let client = Talk::start(&lab, Some(netns), &name, what);
        talkers.push((server, client));
    }
    // And one that only the first has: its tuple means nothing in the second.
    let what = "call UDP 127.0.0.1:7000 2.5 from 127.0.0.1:41000";
    let only = Talk::start(&lab, Some(&a), "only-west", what);
    only.truths();
    for (server, client) in talkers {
        assert_eq!(client.truths().len(), 1);
        drop(server);
    }
    let (flows_a, flows_b) = (capture_a.finish(), capture_b.finish());

    let outside = lab.directory("outside");
    let common = ["--once", "--grace", "0s", "--slot", "1s", "--dir"];
    let run = |flows: &Path, more: &[&str]| {
        let arguments = common.iter().copied().chain([flows.to_str().unwrap()]);
        lab.updater(arguments.chain(more.iter().copied())).ok()
    };
    // From nowhere in particular the addresses mean several places: nobody is named.
    let answer = run(&flows_a, &["--output", outside.to_str().unwrap()]);
    assert!(answer.out.contains("ambiguous"), "{answer:?}");
    assert!(names(&outside).values().all(|name| name == "<empty>"), "{:?}", names(&outside));
    // From the wrong place: nobody of the right one.
    let wrong = lab.directory("wrong");
    let place = format!("netns:{}", b.0);
    run(&flows_a, &["--output", wrong.to_str().unwrap(), "--vantage", &place]);
    assert!(names(&wrong).values().all(|name| !name.contains("west")), "{:?}", names(&wrong));
    for (flows, netns, word, other) in
        [(&flows_a, &a, "west", "east"), (&flows_b, &b, "east", "west")]
    {
        let place = format!("netns:{}", netns.0);
        run(flows, &["--vantage", &place]);
        let names = names(flows);
        assert!(names.values().all(|name| !name.contains(other)), "{names:?}");
        let expected = format!("client-{word}>server-{word}");
        assert!(names.values().any(|name| *name == expected), "{names:?}");
    }
    assert!(names(&flows_a).values().any(|name| name == "only-west>server-west"));
}
