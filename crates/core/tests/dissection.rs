//! What flows speak: found however their octets come, bounded whatever they are, and without secrets.

mod conversations;
mod frames;

use conversations::{
    certificates, client_hello, crypto, datagrams_hold, dns, examples, heard, is_recognised,
    quic_holds, records, server_hello, stream_holds, turns,
};
use frames::{ipv4, tcp, udp};
use procflow_core::Timestamp;
use procflow_core::dissect::{
    ApplicationProtocol, Basis, Conversation, Dissected, DissectionSettings, Rules,
};
use procflow_core::features::Needs;
use procflow_core::flow::{AsTheyAre, Direction, Filled, Record, Settings, meter};
use procflow_core::packet::{Batch, Decoder, LinkType};

const SECOND: i64 = 1_000_000_000;

/// The records of raw IP packets, one a second.
fn metered(dissection: DissectionSettings, threads: usize, packets: &[Vec<u8>]) -> Vec<Record> {
    let settings = Settings { needs: Needs::DISSECTION, dissection, ..Settings::default() };
    let mut waiting = packets.iter().enumerate();
    let source = |batch: &mut Batch| {
        batch.clear();
        for (number, bytes) in waiting.by_ref().take(3) {
            let time = Timestamp(number as i64 * SECOND);
            batch.push(time, bytes.len() as u32, LinkType::RAW, bytes);
        }
        if batch.is_empty() { Filled::Last } else { Filled::More(None) }
    };
    let mut all = Vec::new();
    let take = |made: &Vec<Record>, index: usize| all.push(made[index].clone());
    let tally = meter(Decoder::default(), settings, threads, source, &AsTheyAre, take);
    assert!(tally.is_conserved());
    all
}

fn found(packets: &[Vec<u8>]) -> Dissected {
    let [record] = &metered(DissectionSettings::default(), 1, packets)[..] else {
        panic!("one flow was meant")
    };
    record.dissected.as_deref().cloned().unwrap_or_default()
}

/// A segment from host 1 to host 2, port 443, with so many octets in front of it.
fn segment(flags: u8, at: usize, payload: &[u8]) -> Vec<u8> {
    let sequence = 1000_u32.wrapping_add(at as u32);
    ipv4(1, 2, 6, &tcp(40000, 443, flags, (sequence, 0), payload))
}

/// What is to be found of a ClientHello.
fn is_hello(found: &Dissected) -> bool {
    let client = found.tls.as_ref().and_then(|tls| tls.client.as_ref());
    found.protocol == Some(ApplicationProtocol::TLS)
        && client.is_some_and(|client| {
            client.server_name.as_deref() == Some("www.example.org")
                && client.alpn.as_deref() == Some("h2,http/1.1")
                && client.ja4.starts_with("t13d0204h2_")
        })
}

#[test]
fn a_hello_is_read_in_whatever_segments_and_records_it_comes() {
    let syn = ipv4(1, 2, 6, &tcp(40000, 443, 2, (999, 0), b""));
    for most in [16_000, 50, 7] {
        let hello = records(22, &client_hello("www.example.org"), most);
        for at in 1..hello.len() {
            let (first, second) = hello.split_at(at);
            let pieces = [segment(16, 0, first), segment(16, at, second)];
            assert!(is_hello(&found(&[syn.clone(), pieces[0].clone(), pieces[1].clone()])), "{at}");
            assert!(is_hello(&found(&[syn.clone(), pieces[1].clone(), pieces[0].clone()])), "{at}");
        }
    }
}

#[test]
fn octets_that_come_again_or_overlap_change_nothing() {
    let syn = ipv4(1, 2, 6, &tcp(40000, 443, 2, (999, 0), b""));
    let hello = records(22, &client_hello("www.example.org"), 16_000);
    let (a, b) = (hello.len() / 3, hello.len() / 2);
    // The last one says something else of what was said.
    let lie = vec![0; hello.len() - a];
    let packets = [
        syn,
        segment(16, 0, &hello[..b]),
        segment(16, 0, &hello[..a]),
        segment(16, a, &hello[a..]),
        segment(16, a, &lie),
    ];
    assert!(is_hello(&found(&packets)));
}

#[test]
fn a_hole_ends_what_is_read_and_what_was_found_before_it_stays() {
    let hello = records(22, &client_hello("www.example.org"), 16_000);
    // Octets that never come, behind which more waits than is let wait.
    let mut missing = vec![segment(16, 0, &hello[..40])];
    let behind = [&hello[60..], &vec![0; 20_000]].concat();
    for (number, part) in behind.chunks(1400).enumerate() {
        missing.push(segment(16, 60 + number * 1400, part));
    }
    let Dissected { protocol, tls, .. } = found(&missing);
    assert_eq!(protocol, Some(ApplicationProtocol::TLS));
    assert!(tls.is_none_or(|tls| tls.client.is_none()));
    // The same in the fields of HTTP: those in front of the hole are read.
    let request = b"GET / HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: x\r\n\r\n";
    let mut missing = vec![segment(16, 0, &request[..42])];
    for number in 0..15 {
        missing.push(segment(16, 60 + number * 1400, &[b'a'; 1400]));
    }
    let http = found(&missing).http.unwrap();
    assert_eq!((http.host.as_deref(), http.user_agent), (Some("www.example.org"), None));
}

#[test]
fn a_proxy_and_what_goes_through_it_and_the_answer_behind_an_interim_one() {
    for (protocol, _, octets) in examples().into_iter().filter(|(.., octets)| {
        octets.windows(8).any(|window| window == b"CONNECT " || window == b"Continue")
    }) {
        let found = heard(Conversation::stream(40000, 8080), &turns(&octets));
        let http = found.http.clone().unwrap();
        assert_eq!(protocol, ApplicationProtocol::HTTP);
        if http.method.as_deref() == Some("CONNECT") {
            assert!(is_hello(&found) && found.began_as == Some(ApplicationProtocol::HTTP));
        } else {
            assert_eq!((http.status, found.protocol), (Some(204), Some(ApplicationProtocol::HTTP)));
        }
    }
}

#[test]
fn a_flow_that_wants_more_than_its_share_is_not_read_on() {
    // A hello of 3,000 octets, in segments of 1,000.
    let name = "a".repeat(250);
    let long = [&client_hello(&name)[..], &vec![0; 3000]].concat();
    let length = (long.len() - 4) as u32;
    let hello = [&[1][..], &length.to_be_bytes()[1..], &long[4..]].concat();
    let record = records(22, &hello, 16_000);
    let packets: Vec<Vec<u8>> = record
        .chunks(1000)
        .enumerate()
        .map(|(number, part)| segment(16, number * 1000, part))
        .collect();
    let client = |octets: u32| {
        let settings = DissectionSettings { octets, ..DissectionSettings::default() };
        let records = metered(settings, 1, &packets);
        let found = records[0].dissected.clone().unwrap();
        assert_eq!(found.protocol, Some(ApplicationProtocol::TLS));
        found.tls.and_then(|tls| tls.client)
    };
    assert!(client(1500).is_none());
    assert_eq!(client(5000).unwrap().server_name.as_deref(), Some(&name[..]));
}

#[test]
fn absurd_messages_cost_no_more_than_others() {
    use Direction::{Forward, Reverse};
    // A ClientHello of 16 MB, of which as much comes as anybody likes.
    let endless = [records(22, &[1, 255, 255, 255], 4), records(22, &[0; 60_000], 16_000)].concat();
    let tls = Conversation::stream(40000, 443);
    assert_eq!(heard(tls, &[(Forward, &endless)]).tls.unwrap_or_default().client, None);
    // One that goes on as long as it may.
    let long = [&[1, 0, 0xff, 0xff][..], &[0; 60_000]].concat();
    heard(Conversation::stream(40000, 443), &[(Forward, &records(22, &long, 16_000))]);
    // Thousands of certificates.
    let small = b"0\x03abc";
    let many =
        records(22, &[server_hello(), certificates(&vec![&small[..]; 5000])].concat(), 16_000);
    let hello = records(22, &client_hello("www.example.org"), 16_000);
    let found = heard(Conversation::stream(40000, 443), &[(Forward, &hello), (Reverse, &many)]);
    assert!(is_hello(&found) && found.tls.unwrap().server.is_some());
    // A header section and a banner without an end.
    let request =
        [b"GET / HTTP/1.1\r\nHost: www.example.org\r\n".to_vec(), vec![b'a'; 1 << 20]].concat();
    let http = heard(Conversation::stream(40000, 80), &[(Forward, &request)]).http.unwrap();
    assert_eq!(http.host.as_deref(), Some("www.example.org"));
    let banner = [b"SSH-2.0-".to_vec(), vec![b'a'; 1 << 20]].concat();
    heard(Conversation::stream(40000, 22), &[(Forward, &banner)]);
    // A name of DNS that points at itself, and at what points back.
    for pointer in [&[0xc0, 12][..], &[1, b'a', 0xc0, 12], &[0xc0, 14, 0xc0, 12]] {
        let head = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let message = [&head[..], pointer, &[0, 1, 0, 1]].concat();
        let dns = Conversation::datagrams(40000, 53);
        let found = heard(dns, &[(Forward, &message)]);
        assert_eq!(found.protocol, Some(ApplicationProtocol::DNS));
        assert!(found.dns.unwrap().questions.is_empty());
    }
}

#[test]
fn what_holds_of_any_conversation_holds_of_the_examples() {
    for (protocol, is_stream, octets) in examples() {
        let turns = turns(&octets);
        let found = if is_stream {
            stream_holds(protocol, &turns);
            heard(Conversation::stream(40000, 4433).speaking(protocol), &turns)
        } else {
            datagrams_hold(protocol, &turns);
            quic_holds(&turns);
            heard(Conversation::datagrams(40000, 4433).speaking(protocol), &turns)
        };
        for port in [53, 443] {
            is_recognised(is_stream, port, &turns);
        }
        let named = found.server_name() == Some("www.example.org");
        let is_ssh = found.ssh.is_some_and(|ssh| ssh.hassh.is_some() && ssh.hassh_server.is_some());
        // Of one QUIC has the frames only, which fuzzing seals.
        let sealed = protocol == ApplicationProtocol::QUIC && found.quic.is_none();
        assert!(named || is_ssh || sealed, "{protocol:?}");
    }
}

#[test]
fn a_hello_in_quic_is_read_in_whatever_packets_and_frames_it_comes() {
    use Direction::{Forward, Reverse};
    let hello = client_hello("www.example.org");
    for at in 1..hello.len() {
        let (first, second) = hello.split_at(at);
        let parts = [(0, first), (at as u16, second)];
        let answer = crypto(Reverse, 0, &[(0, &server_hello())]);
        let in_one = crypto(Forward, 0, &[parts[1], parts[0]]);
        let [one, other] = parts.map(|part| crypto(Forward, 1, &[part]));
        for datagrams in [vec![&in_one], vec![&one, &other], vec![&other, &one]] {
            let mut turns: Vec<_> =
                datagrams.into_iter().map(|octets| (Forward, &octets[..])).collect();
            turns.push((Reverse, &answer[..]));
            let found = heard(Conversation::datagrams(40000, 443), &turns);
            assert_eq!(found.protocol, Some(ApplicationProtocol::QUIC));
            let tls = found.tls.as_ref().unwrap();
            let client = tls.client.as_ref().unwrap();
            assert!(client.ja4.starts_with("q13d0204h2_"), "{}", client.ja4);
            assert_eq!(found.server_name(), Some("www.example.org"), "{at}");
            assert_eq!(tls.server.as_ref().map(|server| server.cipher), Some(0xc02b), "{at}");
        }
    }
}

/// Found by fuzzing: cut behind its empty line, the preface was taken for a request.
#[test]
fn the_preface_of_http_2_is_no_request_in_whatever_pieces_it_comes() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more";
    for at in 1..preface.len() {
        let turns = [(Direction::Forward, &preface[..at]), (Direction::Forward, &preface[at..])];
        let http = heard(Conversation::stream(40000, 80), &turns).http.unwrap();
        assert_eq!((http.version, http.method), (2, None), "{at}");
    }
}

/// Found by fuzzing: octet by octet, its empty line was passed over.
#[test]
fn what_is_nearly_the_preface_is_a_request_in_whatever_pieces_it_comes() {
    let nearly = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rand more";
    let turns = [
        (Direction::Forward, &nearly[..]),
        (Direction::Reverse, b"HTTP/1.1 200 OK\r\nServer: y\r\n\r\n"),
        (Direction::Forward, b"GET /more HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ];
    stream_holds(ApplicationProtocol::HTTP, &turns);
    let speaking = || Conversation::stream(40000, 80).speaking(ApplicationProtocol::HTTP);
    for pieces in 1..nearly.len() {
        let mut conversation = speaking();
        for piece in nearly.chunks(pieces) {
            conversation.hear(Direction::Forward, piece);
        }
        assert_eq!(conversation.kept(), 0, "in pieces of {pieces}");
        assert_eq!(conversation.found().http.unwrap().method.as_deref(), Some("PRI"));
    }
}

/// Found by the same input: what the server said first was read as a request, and took the client's place.
#[test]
fn only_who_speaks_first_asks_unless_that_was_an_answer() {
    let server = b"GET / HTTP/1.1\r\nHost: b.example\r\nUser-Agent: z\r\n\r\n";
    let post = b"POST /upload HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    for cut in [5, 20, post.len()] {
        let turns = [
            (Direction::Forward, &post[..cut]),
            (Direction::Reverse, &server[..]),
            (Direction::Forward, &post[cut..]),
        ];
        stream_holds(ApplicationProtocol::HTTP, &turns);
        let http = heard(Conversation::stream(40000, 80), &turns).http.unwrap();
        assert_eq!((http.method.as_deref(), http.path_length), (Some("POST"), Some(7)));
        assert_eq!((http.host, http.user_agent), (None, None));
    }
    // In the middle of a connection an answer may come first.
    let turns = [
        (Direction::Reverse, &b"HTTP/1.1 204 No Content\r\n\r\n"[..]),
        (Direction::Forward, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ];
    let http = heard(Conversation::stream(40000, 80), &turns).http.unwrap();
    assert_eq!((http.status, http.host.as_deref()), (Some(204), Some("a.example")));
}

/// Through a proxy goes anything; HTTP in there is not what the flow's own request is.
#[test]
fn http_in_a_tunnel_takes_no_ones_place() {
    let turns = [
        (Direction::Forward, &b"CONNECT a.example:80 HTTP/1.1\r\n\r\n"[..]),
        (Direction::Reverse, b"HTTP/1.1 200 OK\r\n\r\n"),
        (Direction::Forward, b"GET /x HTTP/1.1\r\nHost: b.example\r\n\r\n"),
        (Direction::Reverse, b"HTTP/1.1 404 Not Found\r\n\r\n220 mirror FTP ready\r\n"),
    ];
    let found = heard(Conversation::stream(40000, 3128), &turns);
    assert_eq!(found.protocol, Some(ApplicationProtocol::HTTP));
    let http = found.http.unwrap();
    assert_eq!(
        (http.method.as_deref(), http.status, http.host),
        (Some("CONNECT"), Some(200), None)
    );
}

/// A datagram between two hosts.
fn datagram(from: u8, to: u8, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ipv4(from, to, 17, &udp(ports.0, ports.1, payload))
}

#[test]
fn a_name_is_attached_to_the_flows_of_who_asked_for_it_by_any_number_of_threads() {
    let answer = dns("www.facebook.com", &[[10, 0, 0, 9], [10, 0, 0, 8]]);
    let mut packets = vec![
        datagram(1, 3, (5000, 53), &dns("www.facebook.com", &[])),
        datagram(3, 1, (53, 5000), &answer),
    ];
    for from in [1, 2] {
        packets.push(datagram(from, 9, (6000, 17_777), b"nothing that is known"));
    }
    let records = metered(DissectionSettings::default(), 1, &packets);
    let of = |port: u16, from: u8| {
        let is = |record: &&Record| {
            record.flow.source_port == port
                && record.flow.source.ip().to_string() == format!("10.0.0.{from}")
        };
        let record = records.iter().find(is).unwrap();
        let application = record.application.unwrap();
        let resolved = record.dissected.as_ref().and_then(|found| found.resolved.clone());
        (application.name().map(|name| name.into_owned()), application.basis, resolved)
    };
    assert_eq!(of(5000, 1).0.as_deref(), Some("DNS.Facebook"));
    let (name, basis, resolved) = of(6000, 1);
    assert_eq!((name.as_deref(), basis), (Some("Facebook"), Basis::Resolved));
    let resolved = resolved.unwrap();
    assert_eq!(
        (&resolved.name[..], resolved.age, resolved.ambiguous),
        ("www.facebook.com", SECOND as u64, false)
    );
    // The other host did not ask.
    assert_eq!(of(6000, 2), (None, Basis::Unknown, None));
    let by_four = metered(DissectionSettings::default(), 4, &packets);
    assert_eq!(format!("{by_four:?}"), format!("{records:?}"));
}

#[test]
fn a_guess_by_port_says_that_it_is_one() {
    let records = metered(
        DissectionSettings::default(),
        1,
        &[ipv4(1, 2, 6, &tcp(40000, 3306, 16, (1, 1), b"\0\0\0\0 is no MySQL"))],
    );
    let application = records[0].application.unwrap();
    assert_eq!(application.name().as_deref(), Some("MySQL"));
    assert_eq!((application.basis, application.basis.is_guess()), (Basis::Port, true));
    assert_eq!(application.basis.confidence(), 1);
}

#[test]
fn no_secret_is_kept_and_paths_only_if_somebody_asks() {
    let request = b"POST /login?user=alice&token=s3cr3t HTTP/1.1\r\nHost: www.example.org\r\n\
        Cookie: session=c00kie\r\nAuthorization: Basic YWxpY2U=\r\n\r\npassword=hunter2";
    let packets = [ipv4(1, 2, 6, &tcp(40000, 80, 24, (1, 1), request))];
    let text = |paths: bool| {
        let settings = DissectionSettings { paths, ..DissectionSettings::default() };
        let records = metered(settings, 1, &packets);
        serde_json::to_string(&records[0].dissected).unwrap()
    };
    for secret in ["s3cr3t", "alice", "c00kie", "YWxpY2U", "hunter2"] {
        for paths in [false, true] {
            assert!(!text(paths).contains(secret), "{secret}: {}", text(paths));
        }
    }
    assert!(!text(false).contains("login"), "{}", text(false));
    assert!(text(true).contains("/login?user=&token="), "{}", text(true));
}

#[test]
fn only_so_many_packets_are_looked_at() {
    let packets: Vec<Vec<u8>> = (0..10)
        .map(|number| datagram(1, 2, (5000, 53), &dns(&format!("n{number}.example"), &[])))
        .collect();
    let settings = DissectionSettings { packets: 3, ..DissectionSettings::default() };
    let records = metered(settings, 1, &packets);
    let dns = records[0].dissected.as_ref().unwrap().dns.as_ref().unwrap();
    assert_eq!(dns.questions.len(), 3);
}

#[test]
fn own_rules_name_own_services() {
    let mut rules = Rules::shipped().clone();
    rules
        .add("[[service]]\nname = \"Intranet\"\ncategory = \"Business\"\nhosts = [\"example.org\"]")
        .unwrap();
    let rules: &'static Rules = Box::leak(Box::new(rules));
    let hello = records(22, &client_hello("www.example.org"), 16_000);
    let settings = DissectionSettings { rules: Some(rules), ..DissectionSettings::default() };
    let records = metered(settings, 1, &[segment(16, 0, &hello)]);
    let application = records[0].application.unwrap();
    assert_eq!(application.name().as_deref(), Some("TLS.Intranet"));
    assert_eq!((application.category, application.basis), (Some("Business"), Basis::Parsed));
}
