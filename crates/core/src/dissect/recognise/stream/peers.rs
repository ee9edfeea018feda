//! Many machines with one aim: BitTorrent's peers, and miners with the pool they work for.

use super::octets::{Fit, begins, contains, line, one_of};
use super::{ApplicationProtocol, Look, Said};

/// BitTorrent: a peer's handshake. BEP 3, "peer protocol".
pub(super) fn bittorrent(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::BITTORRENT, |octets| {
        begins(octets, b"\x13BitTorrent protocol")
    })
}

/// Mining: a line of JSON whose method is one that only miners and pools use, or a log-in that
/// names an agent. "Stratum mining protocol" (Bitcoin wiki), EIP-1571, and the log-in of xmr-stak
/// and XMRig.
pub(super) fn mining(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::MINING, |octets| {
        if octets.first().is_some_and(|&first| first != b'{')
            || octets.get(1).is_some_and(|&next| !matches!(next, b'"' | b' '))
        {
            return Fit::Against;
        }
        let (text, whole) = line(octets).map_or((octets, false), |(line, _)| (line, true));
        let text = text.get(..text.len().min(1024)).unwrap_or_default();
        let method = method(text);
        let miners = [
            &b"mining."[..],
            b"eth_submitLogin\"",
            b"eth_submitWork\"",
            b"eth_submitHashrate\"",
            b"keepalived\"",
        ];
        match method {
            Some(method) if miners.iter().any(|known| method.starts_with(known)) => Fit::Sure,
            Some(method)
                if method.starts_with(b"login\"")
                    && contains(text, b"\"login\":")
                    && contains(text, b"\"agent\"") =>
            {
                Fit::Sure
            }
            Some(method) if method.starts_with(b"job\"") && contains(text, b"\"blob\"") => {
                Fit::Sure
            }
            None if contains(text, b"\"job_id\"") && contains(text, b"\"blob\"") => Fit::Sure,
            _ if whole || text.len() == 1024 || text.contains(&0) => Fit::Against,
            _ => Fit::Open,
        }
    })
}

/// What stands after `"method":` and the quotation mark.
fn method(text: &[u8]) -> Option<&[u8]> {
    let key = b"\"method\"";
    let at = text.windows(key.len()).position(|window| window == key)?;
    let value = text.get(at + key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    value.trim_ascii_start().strip_prefix(b"\"")
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, No};

    #[test]
    fn bittorrent_shakes_hands() {
        expect(
            bittorrent,
            1,
            &[
                (b"\x13BitTorrent protocol\0\0", &[], Is(Protocol::BITTORRENT)),
                (b"\x13BitTorrent protocos", &[], No),
            ],
        );
    }

    #[test]
    fn miners_speak_json() {
        expect(
            mining,
            1,
            &[
                (b"{\"id\": 1, \"method\": \"mining.subscribe\"}\n", &[], Is(Protocol::MINING)),
                (b"{\"id\": 1, \"method\": \"subscribe\"}\n", &[], No),
                (b"{\"method\":\"eth_submitLogin\",\"params\":[]}\n", &[], Is(Protocol::MINING)),
                (
                    b"{\"method\":\"login\",\"params\":{\"login\":\"a\",\"agent\":\"b\"}}\n",
                    &[],
                    Is(Protocol::MINING),
                ),
            ],
        );
    }
}
