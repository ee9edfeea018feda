//! Who passes messages and requests on: the brokers of AMQP, MQTT and NATS, and AJP, by which a
//! web server hands requests to an application server.

use super::octets::{
    Fit, be16, be32, begins, begins_with_one, contains, is_printable, line, messages, one_of,
    one_of_at,
};
use super::{ApplicationProtocol, Look, Said};

/// AMQP: the protocol header of any version, or (in the middle) a method or heartbeat frame of
/// 0-9-1 with its end octet. AMQP 0-9-1 specification, 2.3 and 4.2; AMQP 1.0, 2.2.
pub(super) fn amqp(said: &Said<'_>) -> Look {
    one_of_at(said, &[5672], ApplicationProtocol::AMQP, |octets| match octets {
        [b'A', ..] => match (begins(octets, b"AMQP"), octets.get(4..8)) {
            (Fit::Sure, Some([0, 0, 9, 0 | 1] | [1, 1, 0 | 8 | 9, _] | [0 | 2 | 3, 1, 0, 0])) => {
                Fit::Sure
            }
            (Fit::Sure, Some(_)) => Fit::Against,
            (Fit::Sure, None) => Fit::Open,
            (fit, _) => fit,
        },
        [1, ..] => {
            let channel = be16(octets, 1).is_none_or(|channel| channel < 0x1000);
            match (be32(octets, 3), be16(octets, 7), be16(octets, 9)) {
                (Some(4..=4096), Some(10 | 20 | 30 | 40 | 50 | 60 | 85 | 90), Some(10..=120))
                    if channel =>
                {
                    messages(octets, 1, |octets| {
                        let size = be16(octets, 5).unwrap_or(0);
                        match octets.get(size + 7) {
                            Some(0xce) => Ok(size + 8),
                            Some(_) => Err(Fit::Against),
                            None => Err(Fit::Open),
                        }
                    })
                }
                (Some(4..=4096) | None, Some(10..=90) | None, None) if channel => Fit::Open,
                _ => Fit::Against,
            }
        }
        _ => begins(octets, &[8, 0, 0, 0, 0, 0, 0, 0xce]),
    })
}

/// MQTT: a connect packet that names its protocol and version, or (in the middle) three packets of
/// other types whose flags and lengths are right. MQTT 3.1.1 and 5, sections 2 and 3.
pub(super) fn mqtt(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::MQTT, |octets| match octets {
        [0x10, ..] => mqtt_connect(octets),
        _ => messages(octets, 3, mqtt_packet),
    })
}

/// How long a packet's head and the rest of it are: the latter stands in one to four octets, of
/// which all but the last have the top bit.
fn mqtt_lengths(octets: &[u8]) -> Result<(usize, usize), Fit> {
    let sizes = octets.get(1..octets.len().min(5)).unwrap_or_default();
    match sizes.iter().position(|size| size & 0x80 == 0) {
        Some(last) => {
            let digits = sizes.iter().take(last + 1).rev();
            Ok((last + 2, digits.fold(0, |sum, size| sum << 7 | usize::from(size & 0x7f))))
        }
        None if sizes.len() < 4 => Err(Fit::Open),
        None => Err(Fit::Against),
    }
}

fn mqtt_connect(octets: &[u8]) -> Fit {
    let (head, length) = match mqtt_lengths(octets) {
        Ok(lengths) => lengths,
        Err(fit) => return fit,
    };
    let body = octets.get(head..).unwrap_or_default();
    let level = |known: &[u8], name: usize| match (body.get(name), body.get(name + 1)) {
        (Some(level), Some(flags)) => {
            Fit::sure_if(known.contains(level) && flags & 1 == 0 && length > name + 3)
        }
        _ => Fit::Open,
    };
    match [begins(body, b"\0\x04MQTT"), begins(body, b"\0\x06MQIsdp")] {
        [Fit::Sure, _] => level(&[4, 5, 0x84], 6),
        [_, Fit::Sure] => level(&[3, 0x83], 8),
        [Fit::Against, Fit::Against] => Fit::Against,
        _ => Fit::Open,
    }
}

fn mqtt_packet(octets: &[u8]) -> Result<usize, Fit> {
    let Some(&kind) = octets.first() else { return Err(Fit::Open) };
    let smallest = match kind {
        0x30..=0x35 | 0x38..=0x3d => 3,
        0x40 | 0x50 | 0x62 | 0x70 | 0xb0 => 2,
        0x82 | 0xa2 => 5,
        0x90 => 3,
        0xc0 | 0xd0 => 0,
        _ => return Err(Fit::Against),
    };
    let (head, length) = mqtt_lengths(octets)?;
    // Acknowledgements carry a number (and in version 5 a reason), pings nothing.
    let most = match kind {
        0xc0 | 0xd0 => 0,
        0x30..=0x3d => 65_536,
        0x82 | 0xa2 => 1024,
        _ => 4,
    };
    if length < smallest || length > most {
        return Err(Fit::Against);
    }
    // A topic: of what is published at once, of a subscription behind a number and (in version 5)
    // the length of properties, which are seldom there.
    let topic_at = match kind {
        0x30..=0x3d => head,
        0x82 | 0xa2 if octets.get(head + 2) == Some(&0) && octets.get(head + 3) == Some(&0) => {
            head + 3
        }
        0x82 | 0xa2 => head + 2,
        _ => return Ok(head + length),
    };
    let topic = be16(octets, topic_at).ok_or(Fit::Open)?;
    let end = topic_at + 2 + topic;
    let text = octets.get(topic_at + 2..octets.len().min(end)).unwrap_or_default();
    if topic == 0 || end > head + length || !is_printable(text) {
        return Err(Fit::Against);
    }
    Ok(head + length)
}

/// NATS: the server's INFO or the client's CONNECT, each with an option that only it has. NATS
/// documentation, "Client Protocol".
pub(super) fn nats(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::NATS, |octets| {
        let known: &[&[u8]] = match begins_with_one(octets, &[b"INFO {", b"CONNECT {"]) {
            Fit::Sure if octets.starts_with(b"INFO") => &[b"\"server_id\"", b"\"max_payload\""],
            Fit::Sure => &[b"\"verbose\"", b"\"pedantic\"", b"\"tls_required\"", b"\"lang\""],
            fit => return fit,
        };
        let (seen, whole) = line(octets).map_or((octets, false), |(line, _)| (line, true));
        match known
            .iter()
            .any(|name| contains(seen.get(..seen.len().min(1024)).unwrap_or_default(), name))
        {
            true => Fit::Sure,
            false if whole || seen.len() > 1024 => Fit::Against,
            false => Fit::Open,
        }
    })
}

/// AJP 1.3: 12 34 towards the container and "AB" back, a length, and a code: a ping or pong of one
/// octet, a forwarded request with an HTTP version, or headers with a status. Apache Tomcat,
/// "AJPv13".
pub(super) fn ajp(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::AJP, |octets| match octets.get(..5) {
        Some([0x12, 0x34, 0, 1, 10] | [b'A', b'B', 0, 1, 9]) => Fit::Sure,
        Some([0x12, 0x34, _, _, 2]) => match octets.get(5..13) {
            Some([1..=28 | 255, 0, 8, b'H', b'T', b'T', b'P', b'/']) => Fit::Sure,
            Some(_) => Fit::Against,
            None => Fit::Open,
        },
        Some([b'A', b'B', _, _, 4]) => match be16(octets, 5).zip(be16(octets, 7)) {
            Some((status, text)) => Fit::sure_if((100..600).contains(&status) && text < 128),
            None => Fit::Open,
        },
        Some(_) => Fit::Against,
        None => match octets {
            [] | [0x12] | [b'A'] | [0x12, 0x34, ..] | [b'A', b'B', ..] => Fit::Open,
            _ => Fit::Against,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, No};

    #[test]
    fn brokers_are_greeted() {
        expect(
            amqp,
            1,
            &[
                (b"AMQP\0\0\x09\x01", &[], Is(Protocol::AMQP)),
                (b"AMQP\0\0\x09\x03", &[], No),
                (&[1, 0, 1, 0, 0, 0, 5, 0, 20, 0, 11, 0, 0xce], &[], Is(Protocol::AMQP)),
                (&[1, 0, 1, 0, 0, 0, 5, 0, 20, 0, 11, 0, 0xcf], &[], No),
            ],
        );
        expect(
            mqtt,
            1,
            &[
                (b"\x10\x0e\0\x04MQTT\x04\x02\0<\0\x02ab", &[], Is(Protocol::MQTT)),
                (b"\x10\x0e\0\x04MQTT\x04\x03\0<\0\x02ab", &[], No),
                (b"\x10\x80\x01\0\x06MQIsdp\x03\x02", &[], Is(Protocol::MQTT)),
                (b"\xc0\0\x30\x05\0\x02abc\x40\x02\0\x07", &[], Is(Protocol::MQTT)),
                (b"\x82\x06\0\x07\0\x01a\0\xc0\0\xc0\0", &[], Is(Protocol::MQTT)),
                // As names stand in certificates.
                (b"\x82\x05*.a.b\x82\x05*.a.c\x82\x05*.a.d", &[], No),
                (b"\xc0\0\x30\x05\0\x02abc\x41\x02\0\x07", &[], No),
            ],
        );
        expect(
            nats,
            1,
            &[
                (&[], b"INFO {\"server_id\":\"A\"}\r\n", Is(Protocol::NATS)),
                (&[], b"INFO {\"server\":\"A\"}\r\n", No),
                (b"CONNECT {\"verbose\":true}\r\n", &[], Is(Protocol::NATS)),
                (b"CONNECT example.org:443 HTTP/1.1\r\n", &[], No),
            ],
        );
    }

    #[test]
    fn ajp_pings_and_forwards() {
        expect(
            ajp,
            1,
            &[
                (&[0x12, 0x34, 0, 1, 10], &[], Is(Protocol::AJP)),
                (&[0x12, 0x34, 0, 1, 11], &[], No),
                (b"\x12\x34\0\x80\x02\x02\0\x08HTTP/1.1\0", &[], Is(Protocol::AJP)),
                (&[], b"AB\0\x10\x04\0\xc8\0\x02OK", Is(Protocol::AJP)),
            ],
        );
    }
}
