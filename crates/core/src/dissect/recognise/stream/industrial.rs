//! Machines in plants and grids: DNP3, IEC 60870-5-104, Modbus and Siemens S7. All are short
//! binary messages that carry their length; what else there is to check decides how many have to
//! be seen.

use super::octets::{Fit, be16, either, messages, one_of, one_of_at};
use super::{ApplicationProtocol, Look, Said};

/// DNP3: the start octets 05 64 and the header's checksum. IEEE 1815, 9.2. On its own port (20000)
/// a direction that does not fit is borne until the other has spoken, as masters are heard that
/// have lost their step.
pub(super) fn dnp3(said: &Said<'_>) -> Look {
    let header = |octets: &[u8]| match octets.get(..10) {
        Some(&[5, 0x64, length, _, _, _, _, _, low, high]) => {
            let octets = octets.get(..8).unwrap_or_default();
            Fit::sure_if(length >= 5 && dnp3_checksum(octets) == u16::from_le_bytes([low, high]))
        }
        None if matches!(octets, [] | [5] | [5, 0x64, ..]) => Fit::Open,
        _ => Fit::Against,
    };
    one_of_at(said, &[20_000], ApplicationProtocol::DNP3, header)
}

/// CRC-16/DNP: polynomial 0x3d65, reflected, inverted.
fn dnp3_checksum(octets: &[u8]) -> u16 {
    let shift = |crc: u16| if crc & 1 == 1 { crc >> 1 ^ 0xa6bc } else { crc >> 1 };
    !octets.iter().fold(0, |crc, &octet| (0..8).fold(crc ^ u16::from(octet), |crc, _| shift(crc)))
}

/// IEC 60870-5-104: one frame of the U format (its six octets are fixed but for the function), or
/// two of the others whose control fields, types and causes are in range, of two numbered ones the
/// second numbered next. IEC 60870-5-104, 5.1 to 5.3. On port 2404 an S frame suffices, which has
/// no more than four fixed octets.
pub(super) fn iec104(said: &Said<'_>) -> Look {
    one_of_at(said, &[2404], ApplicationProtocol::IEC60870, |octets| match octets {
        [0x68, 4, 0x07 | 0x0b | 0x13 | 0x23 | 0x43 | 0x83, 0, 0, 0, ..] => Fit::Sure,
        [0x68, 4, 1, 0, low, _, ..] if low & 1 == 0 && said.has_port(2404) => Fit::Sure,
        _ => match iec104_length(octets) {
            Ok(length) => {
                let next = octets.get(length..).unwrap_or_default();
                let number =
                    |frame: &[u8]| Some(u16::from_le_bytes(*frame.get(2..)?.first_chunk()?));
                match (iec104_length(next), number(octets), number(next)) {
                    (Ok(_), Some(first), Some(second)) if first & 1 == 0 && second & 1 == 0 => {
                        Fit::sure_if(second == first.wrapping_add(2))
                    }
                    (Ok(_), ..) => Fit::Sure,
                    (Err(fit), ..) => fit,
                }
            }
            Err(fit) => fit,
        },
    })
}

fn iec104_length(octets: &[u8]) -> Result<usize, Fit> {
    match octets.get(..6) {
        Some(&[0x68, 4, 7 | 0x0b | 0x13 | 0x23 | 0x43 | 0x83, 0, 0, 0]) => Ok(6),
        Some(&[0x68, 4, 1, 0, low, _]) if low & 1 == 0 => Ok(6),
        Some(&[0x68, length @ 10..=253, sent, _, received, _])
            if sent & 1 == 0 && received & 1 == 0 =>
        {
            match octets.get(6..9) {
                Some(&[kind, count, cause]) => {
                    let monitors = matches!(kind, 1..=40 | 70);
                    let known = monitors
                        || matches!(kind, 45..=51 | 58..=64 | 100..=107 | 110..=113 | 120..=127);
                    let caused = matches!(cause & 0x3f, 1..=13 | 20..=41 | 44..=47);
                    if known && caused && count & 0x7f > 0 {
                        Ok(usize::from(length) + 2)
                    } else {
                        Err(Fit::Against)
                    }
                }
                _ => Err(Fit::Open),
            }
        }
        None if matches!(octets, [] | [0x68] | [0x68, 4 | 10..=253, ..]) => Err(Fit::Open),
        _ => Err(Fit::Against),
    }
}

/// Modbus: header with protocol 0 and a length that its function and counts confirm. Sure when
/// both ends use one transaction and function, or at three messages in a row; on port 502 at two,
/// as there is no magic number. MODBUS Messaging on TCP/IP V1.0b 3.1.3, Application Protocol
/// V1.1b3 chapter 6.
pub(super) fn modbus(said: &Said<'_>) -> Look {
    let [asked, told] = [said.initiator, said.responder];
    let wanted = if said.has_port(502) { 2 } else { 3 };
    let fits = [messages(asked, wanted, modbus_length), messages(told, wanted, modbus_length)];
    let one_each = modbus_length(asked).is_ok() && modbus_length(told).is_ok();
    let same = asked.get(..2) == told.get(..2) && asked.get(6..8) == told.get(6..8);
    match one_each && same && asked.get(..4) != Some(&[0; 4]) {
        true => Look::Is(ApplicationProtocol::MODBUS),
        false => either(fits, ApplicationProtocol::MODBUS),
    }
}

fn modbus_length(octets: &[u8]) -> Result<usize, Fit> {
    let Some(&[_, _, protocol, reserved, high, length, _, function]) = octets.get(..8) else {
        return Err(match octets {
            [_, _, 0, 0, 0, ..] | [_, _, 0, 0] | [_, _, 0] | [_, _] | [_] | [] => Fit::Open,
            _ => Fit::Against,
        });
    };
    if (protocol, reserved, high) != (0, 0, 0) || !(3..=254).contains(&length) {
        return Err(Fit::Against);
    }
    let Some(&first) = octets.get(8) else { return Err(Fit::Open) };
    // Two 16-bit values of a request; the second is mostly a count.
    let pair = be16(octets, 10);
    let counted = length > 3 && first == length - 3;
    let fits = match (function, length) {
        // A request with a count, or a response with one octet for its length.
        (1 | 2, 6) => pair.is_none_or(|count| (1..=2000).contains(&count)) || counted,
        (3 | 4, 6) => pair.is_none_or(|count| (1..=125).contains(&count)) || counted,
        (1..=4 | 12 | 17 | 20 | 21 | 23, _) if counted => true,
        (5, 6) => pair.is_none_or(|value| matches!(value, 0 | 0xff00)),
        (6, 6) | (8, 6..) | (22, 8) | (7 | 11 | 12 | 17, 2) => true,
        (15 | 16, 6) => pair.is_none_or(|count| (1..=2000).contains(&count)),
        (15 | 16, 9..) => octets.get(12).is_none_or(|&count| count == length - 7),
        (23, 13..) => octets.get(16).is_none_or(|&count| count == length - 11),
        (43, 5..) => matches!(first, 13 | 14),
        (0x81..=0xab, 3) => matches!(first, 1..=11),
        // Schneider's UMAS: a session, a function or a result.
        (0x5a, 4..) => true,
        _ => false,
    };
    if fits { Ok(usize::from(length) + 6) } else { Err(Fit::Against) }
}

/// Siemens S7: TPKT, a COTP data unit, and in it the header 32 with a known kind of message and
/// two lengths that add up to the packet's. RFC 1006 section 6, ISO 8073; the S7 header as in
/// Wireshark's packet-s7comm.
pub(super) fn s7comm(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::S7COMM, |octets| {
        // A connection is requested (0xe0) or confirmed (0xd0) first.
        let data = match octets {
            [3, 0, 0, length @ 11..=60, inner, 0xe0 | 0xd0, ..]
                if u16::from(*inner) + 5 == u16::from(*length) =>
            {
                octets.get(usize::from(*length)..).unwrap_or_default()
            }
            _ => octets,
        };
        match data.get(..17) {
            Some(&[3, 0, _, _, 2, 0xf0, 0x80, 0x32, kind, 0, 0, _, _, _, _, _, _]) => {
                let header = match kind {
                    1 | 7 => 17,
                    2 | 3 => 19,
                    _ => return Fit::Against,
                };
                let parts = be16(data, 13)
                    .zip(be16(data, 15))
                    .map(|(parameters, data)| header + parameters + data);
                Fit::sure_if(be16(data, 2) == parts)
            }
            None => match data {
                [] | [3] | [3, 0] | [3, 0, _] | [3, 0, 0, _] | [3, 0, 0, 11..=60, 6..=55] => {
                    Fit::Open
                }
                [3, 0, 0, 11..=60, 6..=55, 0xe0 | 0xd0, ..] if data.len() == octets.len() => {
                    Fit::Open
                }
                [3, 0, _, _, 2] | [3, 0, _, _, 2, 0xf0] | [3, 0, _, _, 2, 0xf0, 0x80] => Fit::Open,
                [3, 0, _, _, 2, 0xf0, 0x80, 0x32, ..] => Fit::Open,
                _ => Fit::Against,
            },
            Some(_) => Fit::Against,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn dnp3_checks_its_header() {
        let header = [5, 0x64, 5, 0xc0, 1, 0, 0, 4];
        let [low, high] = dnp3_checksum(&header).to_le_bytes();
        let good = [&header[..], &[low, high]].concat();
        // The example of a checksum that catalogues of them give for "123456789".
        assert_eq!(dnp3_checksum(b"123456789"), 0xea82);
        expect(
            dnp3,
            1,
            &[
                (&good, &[], Is(Protocol::DNP3)),
                (&[&header[..], &[low, high ^ 1]].concat(), &[], No),
            ],
        );
        expect(dnp3, 20_000, &[(&[5, 5], &[], More), (&[5, 5], &good, Is(Protocol::DNP3))]);
    }

    #[test]
    fn iec104_numbers_its_frames() {
        let frame = |sent: u8| [0x68, 14, sent, 0, 0, 0, 100, 1, 6, 0, 1, 0, 0, 0, 0, 20];
        expect(
            iec104,
            1,
            &[
                (&[0x68, 4, 7, 0, 0, 0], &[], Is(Protocol::IEC60870)),
                (&[0x68, 4, 7, 0, 0, 1], &[], No),
                (&[frame(0), frame(2)].concat(), &[], Is(Protocol::IEC60870)),
                (&[frame(0), frame(4)].concat(), &[], No),
                (&[0x68, 4, 1, 0, 2, 0], &[], More),
            ],
        );
        expect(iec104, 2404, &[(&[0x68, 4, 1, 0, 2, 0], &[], Is(Protocol::IEC60870))]);
    }

    #[test]
    fn modbus_answers_with_the_same_number() {
        let asked = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
        expect(
            modbus,
            1,
            &[
                (&asked, &[0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 7], Is(Protocol::MODBUS)),
                (&asked, &[0, 1, 0, 0, 0, 5, 1, 3, 9, 0, 7], No),
                (&[asked, asked].concat(), &[], More),
                (&[asked, asked, asked].concat(), &[], Is(Protocol::MODBUS)),
                (&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 9, 1], &[], No),
            ],
        );
        expect(modbus, 502, &[(&[asked, asked].concat(), &[], Is(Protocol::MODBUS))]);
    }

    #[test]
    fn s7comm_is_in_cotp() {
        let opened = [3, 0, 0, 11, 6, 0xe0, 0, 0, 0, 1, 0];
        let setup = |length: u8| {
            let head = [3, 0, 0, length, 2, 0xf0, 0x80, 0x32, 1, 0, 0, 0, 1, 0, 8, 0, 0];
            [&head[..], &[0xf0, 0, 0, 1, 0, 1, 1, 0xe0]].concat()
        };
        expect(
            s7comm,
            102,
            &[
                (&setup(25), &[], Is(Protocol::S7COMM)),
                (&[&opened[..], &setup(25)].concat(), &[], Is(Protocol::S7COMM)),
                (&[&opened[..], &setup(26)].concat(), &[], No),
                (&opened, &[], More),
            ],
        );
    }
}
