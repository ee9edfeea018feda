//! Conversations for tests, and what holds of any: the tests and the fuzz targets claim the same.
//!
//! A conversation in octets is turn after turn: two octets with the direction in the first bit and the length
//! in the others, then what is said.

#![allow(dead_code)]

mod initial;

use procflow_core::dissect::{ApplicationProtocol, Conversation, Dissected};
use procflow_core::flow::Direction;

pub(crate) type Turn<'a> = (Direction, &'a [u8]);

/// The turns of a conversation in octets; the last one may be cut short.
pub(crate) fn turns(mut octets: &[u8]) -> Vec<Turn<'_>> {
    let mut turns = Vec::new();
    while let Some((&[first, second], rest)) = octets.split_first_chunk() {
        let direction = if first & 0x80 == 0 { Direction::Forward } else { Direction::Reverse };
        let length = usize::from(u16::from_be_bytes([first & 0x7f, second])).min(rest.len());
        let (said, behind) = rest.split_at(length);
        turns.push((direction, said));
        octets = behind;
    }
    turns
}

/// The other way round.
pub(crate) fn octets(turns: &[Turn<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (direction, said) in turns {
        for said in said.chunks(0x7fff) {
            let way = (direction.index() as u16) << 15;
            octets.extend((way | said.len() as u16).to_be_bytes());
            octets.extend_from_slice(said);
        }
    }
    octets
}

/// So many octets are kept of a conversation at most, whatever is said: a record and a message of each end, and
/// what came too early.
const KEPT: usize = 256 << 10;

/// No more is kept than was said, but for this: keys, mostly.
const BESIDE: usize = 4096;

/// What is found has at most so many octets as text: 16 questions, 16 answers of two texts and as many names, each
/// of at most 255 octets (JSON may double them), and some more texts.
const FOUND: usize = 40 << 10;

/// What is found when these turns are heard. Nothing is kept beyond a bound on the way, and what is known does
/// not change but to what it turns to.
pub(crate) fn heard(mut conversation: Conversation, turns: &[Turn<'_>]) -> Dissected {
    let mut known = conversation.found().protocol;
    let mut heard = 0;
    for (direction, said) in turns {
        conversation.hear(*direction, said);
        heard += said.len();
        let most = (KEPT + said.len()).min(heard + BESIDE);
        assert!(conversation.kept() <= most, "{} octets are kept", conversation.kept());
        let now = conversation.found().protocol;
        let turned = [ApplicationProtocol::TLS, ApplicationProtocol::WEBSOCKET];
        // Through a proxy goes anything.
        let may = known.is_none()
            || known == Some(ApplicationProtocol::HTTP)
            || now == known
            || now.is_some_and(|now| turned.contains(&now));
        assert!(may, "{known:?} became {now:?}");
        known = now;
    }
    let found = conversation.found();
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.len() <= FOUND, "{} octets are found", text.len());
    let no_control = |c: char| !c.is_control();
    assert!(text.chars().all(no_control), "{text:?}");
    found
}

/// Streams of a protocol say the same in whatever pieces their octets come.
pub(crate) fn stream_holds(protocol: ApplicationProtocol, turns: &[Turn<'_>]) {
    let new = || Conversation::stream(40000, 4433).speaking(protocol);
    let whole = heard(new(), turns);
    let single: Vec<Turn<'_>> = turns
        .iter()
        .flat_map(|(direction, said)| said.chunks(1).map(|one| (*direction, one)))
        .collect();
    let single = heard(new(), &single);
    // What is recognised in a tunnel depends on what is seen at a time: a record that ends with its segment is a
    // mark of TLS.
    let is_tunnel =
        whole.http.as_ref().is_some_and(|http| http.method.as_deref() == Some("CONNECT"));
    if is_tunnel {
        assert_eq!(single.http, whole.http, "octet by octet");
    } else {
        assert_eq!(single, whole, "octet by octet");
    }
}

/// Datagrams of a protocol say something bounded.
pub(crate) fn datagrams_hold(protocol: ApplicationProtocol, turns: &[Turn<'_>]) {
    heard(Conversation::datagrams(40000, 4433).speaking(protocol), turns);
}

/// The same of QUIC, in initial packets that can be opened, but for turns that begin with an even octet: those are
/// datagrams as they are.
pub(crate) fn quic_holds(turns: &[Turn<'_>]) {
    let datagram = |(number, (direction, said)): (usize, &Turn<'_>)| match said.split_first() {
        Some((first, frames)) if first % 2 == 1 => {
            (*direction, initial::sealed(*direction, number as u8, frames))
        }
        _ => (*direction, said.to_vec()),
    };
    let datagrams: Vec<_> = turns.iter().enumerate().map(datagram).collect();
    let turns: Vec<Turn<'_>> =
        datagrams.iter().map(|(direction, datagram)| (*direction, &datagram[..])).collect();
    datagrams_hold(ApplicationProtocol::QUIC, &turns);
}

/// A datagram of QUIC with one initial packet that has the octets of a handshake from there on.
pub(crate) fn crypto(direction: Direction, number: u8, parts: &[(u16, &[u8])]) -> Vec<u8> {
    initial::sealed(direction, number, &crypto_frames(parts))
}

/// CRYPTO frames of these parts (RFC 9000 section 19.6).
fn crypto_frames(parts: &[(u16, &[u8])]) -> Vec<u8> {
    let frame = |(offset, part): &(u16, &[u8])| {
        let [offset, length] = [*offset, part.len() as u16].map(|n| (0x4000 | n).to_be_bytes());
        [&[6][..], &offset, &length, part].concat()
    };
    parts.iter().flat_map(frame).collect()
}

/// Whatever is said is recognised or not, and bounded; `port` is the responder's.
pub(crate) fn is_recognised(is_stream: bool, port: u16, turns: &[Turn<'_>]) {
    let conversation = match is_stream {
        true => Conversation::stream(40000, port),
        false => Conversation::datagrams(40000, port),
    };
    heard(conversation, turns);
}

/// A list with its length in so many octets in front.
fn listed(octets_of_length: usize, inside: &[u8]) -> Vec<u8> {
    let length = (inside.len() as u32).to_be_bytes();
    [&length[4 - octets_of_length..], inside].concat()
}

/// A handshake message of TLS (RFC 8446 section 4).
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &listed(3, body)].concat()
}

/// Records of TLS, of at most so many octets each.
pub(crate) fn records(kind: u8, content: &[u8], most: usize) -> Vec<u8> {
    let one = |part: &[u8]| [&[kind, 3, 1][..], &listed(2, part)].concat();
    content.chunks(most).flat_map(one).collect()
}

/// A ClientHello for this host, with ALPN.
pub(crate) fn client_hello(host: &str) -> Vec<u8> {
    let extension =
        |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &listed(2, content)].concat();
    let name = listed(2, &[&[0][..], &listed(2, host.as_bytes())].concat());
    let protocols = listed(2, &[listed(1, b"h2"), listed(1, b"http/1.1")].concat());
    let extensions = [
        extension(0x1a1a, &[]),
        extension(0, &name),
        extension(16, &protocols),
        extension(13, &listed(2, &[4, 3, 8, 4])),
        extension(43, &listed(1, &[0x2a, 0x2a, 3, 4, 3, 3])),
    ];
    let body = [
        &[3, 3][..],
        &[7; 32],
        &listed(1, &[]),
        &listed(2, &[0x0a, 0x0a, 0x13, 1, 0xc0, 0x2b]),
        &listed(1, &[0]),
        &listed(2, &extensions.concat()),
    ];
    message(1, &body.concat())
}

/// A ServerHello of TLS 1.2 that takes 0xc02b.
pub(crate) fn server_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[8; 32], &listed(1, &[]), &[0xc0, 0x2b, 0], &listed(2, &[])];
    message(2, &body.concat())
}

/// A Certificate message of these certificates.
pub(crate) fn certificates(of: &[&[u8]]) -> Vec<u8> {
    let all: Vec<u8> = of.iter().flat_map(|der| listed(3, der)).collect();
    message(11, &listed(3, &all))
}

/// A question of DNS for an A record, or an answer with these addresses.
pub(crate) fn dns(name: &str, answers: &[[u8; 4]]) -> Vec<u8> {
    let flags = if answers.is_empty() { [1, 0] } else { [0x81, 0x80] };
    let counts = [0, 1, 0, answers.len() as u8, 0, 0, 0, 0];
    let mut message = [&[0x12, 0x34][..], &flags, &counts].concat();
    for label in name.split('.') {
        message.extend(listed(1, label.as_bytes()));
    }
    message.extend([0, 0, 1, 0, 1]);
    for address in answers {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(address);
    }
    message
}

/// An offer of SSH, with its line in front.
pub(crate) fn ssh(software: &str) -> Vec<u8> {
    let lists: Vec<u8> = ["kex", "key", "aes", "aes", "mac", "mac", "none", "zlib", "", ""]
        .iter()
        .flat_map(|list| listed(4, list.as_bytes()))
        .collect();
    let payload = [&[4, 20][..], &[9; 16], &lists, &[0; 5], &[0; 4]].concat();
    [format!("SSH-2.0-{software}\r\n").into_bytes(), listed(4, &payload)].concat()
}

/// A conversation of each protocol that is read, for fuzzing to start from.
pub(crate) fn examples() -> Vec<(ApplicationProtocol, bool, Vec<u8>)> {
    use Direction::{Forward, Reverse};
    type P = ApplicationProtocol;
    let hello = records(22, &client_hello("www.example.org"), 100);
    let answer = records(22, &[server_hello(), certificates(&[b"0\x03abc"])].concat(), 4096);
    let record = |sequence: u8, content: &[u8]| {
        let fragment =
            [&content[..1], &content[1..4], &[0, sequence, 0, 0, 0], &content[1..4], &content[4..]];
        let head = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, sequence];
        [&head[..], &listed(2, &fragment.concat())].concat()
    };
    let mut over_datagrams = client_hello("www.example.org");
    // The cookie, empty: behind the random octets and the session's.
    over_datagrams.insert(4 + 2 + 32 + 1, 0);
    let length = (over_datagrams.len() - 4) as u32;
    over_datagrams[1..4].copy_from_slice(&length.to_be_bytes()[1..]);
    let question = dns("www.example.org", &[]);
    let reply = dns("www.example.org", &[[192, 0, 2, 1], [192, 0, 2, 2]]);
    let request = b"GET /a?b=c HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: x\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nServer: y\r\nContent-Type: text/html\r\n\r\n<html>";
    let hello_in_quic = client_hello("www.example.org");
    let (first, second) = hello_in_quic.split_at(60);
    // In the form that fuzzing makes packets of: an odd octet in front.
    let frames = [&[1][..], &crypto_frames(&[(60, second), (0, first)])].concat();
    let answers = [&[1, 2, 0, 0, 0, 0][..], &crypto_frames(&[(0, &server_hello())])].concat();
    let chlo = [
        &[0x0d, 1, 2, 3, 4, 5, 6, 7, 8][..],
        b"Q043\x01",
        &[0; 20],
        b"CHLO\x01\0\0\0SNI\0\x0f\0\0\0www.example.org",
    ]
    .concat();
    vec![
        (P::TLS, true, octets(&[(Forward, &hello), (Reverse, &answer)])),
        (
            P::DTLS,
            false,
            octets(&[
                (Forward, &record(0, &over_datagrams)),
                (Reverse, &record(0, &server_hello())),
            ]),
        ),
        (P::DNS, false, octets(&[(Forward, &question), (Reverse, &reply)])),
        (P::DNS, true, octets(&[(Forward, &listed(2, &question)), (Reverse, &listed(2, &reply))])),
        (P::HTTP, true, octets(&[(Forward, request), (Reverse, response)])),
        (
            P::HTTP,
            true,
            octets(&[
                (Forward, b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org\r\n\r\n"),
                (Reverse, b"HTTP/1.1 200 Connection established\r\n\r\n"),
                (Forward, &hello),
                (Reverse, &answer),
            ]),
        ),
        (
            P::HTTP,
            true,
            octets(&[
                (Forward, request),
                (Reverse, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
            ]),
        ),
        (P::SSH, true, octets(&[(Forward, &ssh("client")), (Reverse, &ssh("server"))])),
        (P::QUIC, false, octets(&[(Forward, &frames), (Reverse, &answers)])),
        (P::QUIC, false, octets(&[(Forward, &chlo)])),
    ]
}
