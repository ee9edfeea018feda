//! DTLS: what TLS is over UDP, from its first handshake or in the middle.

use super::octets::{at, be16, be32, chain, only};
use super::{ApplicationProtocol, Look, Said};

/// DTLS: records that end with the datagram, the first a handshake message of epoch 0 whose lengths agree
/// with the record (RFC 6347 sections 4.1 and 4.2.2); or else two records in a row of the same epoch.
pub(super) fn dtls(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if chain(datagram, record).unwrap_or(0) == 0 {
        return Look::No;
    }
    if at(datagram, 0, &[22]) && at(datagram, 3, &[0, 0]) {
        return only(handshake(datagram).is_some(), ApplicationProtocol::DTLS);
    }
    // The type, the version and the epoch are as before and so is the sequence number but for its end.
    let again = said.before.len() >= 13
        && datagram.get(..9) == said.before.get(..9)
        && datagram.get(9..11) != said.before.get(9..11);
    if again { Look::Is(ApplicationProtocol::DTLS) } else { Look::More }
}

/// How long the record at the start is: a content type, version 1.0 or 1.2 or the 0x0100 that OpenSSL had
/// before the standard and Cisco's AnyConnect still sends, an epoch, a sequence number.
fn record(rest: &[u8]) -> Option<usize> {
    let known = matches!(rest, [20..=25, 0xfe, 0xff | 0xfd, ..] | [20..=25, 1, 0, ..]);
    known.then_some(13 + usize::from(be16(rest, 11)?))
}

/// The first handshake message: a known type and a fragment that lies within the message and in the record.
fn handshake(datagram: &[u8]) -> Option<()> {
    let length = usize::from(be16(datagram, 11)?);
    let message = datagram.get(13..)?.get(..length)?;
    let three = |place| Some(be32(message, place)? >> 8);
    let (whole, from, long) = (three(1)?, three(6)?, three(9)?);
    let known = matches!(message.first()?, 0..=4 | 11..=16 | 20..=22 | 24);
    let fits = from.checked_add(long)? <= whole && usize::try_from(long).ok()? + 12 <= length;
    let version =
        message.first()? != &1 || from > 0 || at(message, 12, &[0xfe]) || at(message, 12, &[1, 0]);
    (known && fits && version).then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const PORTS: (u16, u16) = (40000, 4433);

    #[test]
    fn knows_dtls() {
        let is = Look::Is(ApplicationProtocol::DTLS);
        let hello = [
            22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 3, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 254,
            255, 0,
        ];
        let mut far = hello;
        far[24] = 4;
        let data = [23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 7];
        check(
            dtls,
            &[
                (&hello, &[], PORTS, is),
                (&far, &[], PORTS, Look::No),
                (&data, &[], PORTS, Look::More),
                (&data, &[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 8, 0, 1, 9], PORTS, is),
                (&data, &[23, 254, 253, 0, 2, 0, 0, 0, 0, 0, 8, 0, 1, 9], PORTS, Look::More),
                (&[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 7], &[], PORTS, Look::No),
            ],
        );
    }
}
