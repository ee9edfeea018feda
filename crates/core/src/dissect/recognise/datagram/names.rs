//! Names asked for in secret. Both speak on port 443 mostly; their first question is one of plain DNS, so
//! that they have to be asked before DNS is.

use super::octets::{at, be16, only};
use super::{ApplicationProtocol, Look, Said};

/// Avast's secure DNS: a question of DNS for the certificate of `securedns.avast.com`, in any mix of upper
/// and lower case (as seen in captures).
pub(super) fn avast_secure_dns(said: &Said<'_>) -> Look {
    let asked = question(said.datagram(), b"\x012\x09securedns\x05avast\x03com\0");
    only(asked, ApplicationProtocol::AVAST_SECURE_DNS)
}

/// DNSCrypt: a question for the certificate of a provider, whose name begins with `2.dnscrypt-cert` (DNSCrypt
/// version 2 protocol specification, section Certificates), or the octets that begin each of a resolver's
/// answers (section Response), with its nonce and signature. The client's questions are of 64 octets or more,
/// begin with what the certificate said, and tell nothing.
pub(super) fn dnscrypt(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let answer = datagram.starts_with(b"r6fnvWj8") && datagram.len() >= 8 + 24 + 16;
    if answer || question(datagram, b"\x012\x0ddnscrypt-cert") {
        return Look::Is(ApplicationProtocol::DNSCRYPT);
    }
    // A question of version 2 is padded to a multiple of 64 octets, beside its header of 52 and signature of
    // 16.
    let asks = !said.initiator.is_empty()
        && datagram.len() >= 64 + 68
        && (datagram.len() - 68).is_multiple_of(64);
    let padded =
        !said.initiator.is_empty() && datagram.len() >= 256 && datagram.len().is_multiple_of(64);
    if asks || padded { Look::More } else { Look::No }
}

/// Whether this is a message of DNS about one question whose name begins so.
fn question(datagram: &[u8], name: &[u8]) -> bool {
    let one =
        be16(datagram, 4) == Some(1) && be16(datagram, 2).is_some_and(|flags| flags & 0x7840 == 0);
    let asked = datagram.get(12..).and_then(|rest| rest.get(..name.len()));
    one && !at(datagram, 6, &[0xff]) && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const PORTS: (u16, u16) = (40000, 443);

    fn ask(name: &[u8]) -> Vec<u8> {
        [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 16, 0, 1]].concat()
    }

    #[test]
    fn knows_avast() {
        check(
            avast_secure_dns,
            &[
                (
                    &ask(b"\x012\x09secureDNS\x05avast\x03com\0"),
                    &[],
                    PORTS,
                    Look::Is(ApplicationProtocol::AVAST_SECURE_DNS),
                ),
                (&ask(b"\x012\x09securedns\x05avasu\x03com\0"), &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_dnscrypt() {
        let is = Look::Is(ApplicationProtocol::DNSCRYPT);
        let answer = [&b"r6fnvWj8"[..], &[7; 40]].concat();
        check(
            dnscrypt,
            &[
                (&ask(b"\x012\x0ddnscrypt-cert\x07example\0"), &[], PORTS, is),
                (&ask(b"\x012\x0ddnscrypt-cart\x07example\0"), &[], PORTS, Look::No),
                (&answer, &[], PORTS, is),
                (&answer[..47], &[], PORTS, Look::No),
                (&[7; 512], &[], PORTS, Look::More),
                (&[7; 500], &[], PORTS, Look::No),
            ],
        );
    }
}
