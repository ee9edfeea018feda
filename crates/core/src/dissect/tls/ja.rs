//! Fingerprints of TLS: what a hello offers, in one short text, by which programs are told apart.
//!
//! JA3 and JA3S (Althouse, Atkinson, Atkins 2017) are the MD5 of a list of numbers; JA4 and JA4S (FoxIO,
//! "JA4+ technical details") sort what programs shuffle, and can be read in part.

use md5::{Digest as _, Md5};
use ring::digest::{SHA256, digest};
use smol_str::SmolStr;

use super::offer::{Carrier, Offered, is_real};
use crate::dissect::Digest;
use crate::dissect::digest::digits;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// JA3 of a ClientHello: version, ciphers, extensions, groups, point formats, without GREASE.
pub(super) fn ja3(offered: &Offered<'_>) -> Digest<16> {
    let formats: Vec<u16> = offered.point_formats.iter().map(|&format| format.into()).collect();
    let parts = [&offered.ciphers, &offered.extensions, &offered.groups, &formats];
    let mut text = String::with_capacity(512);
    text.push_str(itoa::Buffer::new().format(offered.legacy_version));
    for part in parts {
        text.push(',');
        decimal(part, &mut text);
    }
    md5(text.as_bytes())
}

/// JA3S of a ServerHello: version, cipher, extensions.
pub(super) fn ja3s(version: u16, cipher: u16, extensions: &[u16]) -> Digest<16> {
    let mut text = format!("{version},{cipher},");
    let real: Vec<u16> = extensions.iter().copied().filter(is_real).collect();
    decimal(&real, &mut text);
    md5(text.as_bytes())
}

fn decimal(numbers: &[u16], text: &mut String) {
    let mut between = "";
    for number in numbers {
        text.push_str(between);
        text.push_str(itoa::Buffer::new().format(*number));
        between = "-";
    }
}

/// The MD5 of something.
pub(in super::super) fn md5(octets: &[u8]) -> Digest<16> {
    Digest(Md5::digest(octets).into())
}

/// JA4 of a ClientHello.
pub(super) fn ja4(carrier: Carrier, offered: Offered<'_>) -> SmolStr {
    let Offered { versions, mut ciphers, mut extensions, signatures, alpn, .. } = offered;
    let version = versions.into_iter().max().unwrap_or(offered.legacy_version);
    let name = if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
    let mut text = String::with_capacity(36);
    text.push(carrier.letter());
    text.push_str(version_name(version));
    text.push(name);
    count(ciphers.len(), &mut text);
    count(extensions.len(), &mut text);
    text.extend(ends(alpn.first().copied().unwrap_or_default()));
    ciphers.sort_unstable();
    extensions.retain(|&extension| extension != SERVER_NAME && extension != ALPN);
    extensions.sort_unstable();
    let mut listed = Vec::with_capacity(512);
    list(&ciphers, &mut listed);
    text.push('_');
    hashed(&listed, &mut text);
    listed.clear();
    list(&extensions, &mut listed);
    if !listed.is_empty() && !signatures.is_empty() {
        listed.push(b'_');
        list(&signatures, &mut listed);
    }
    text.push('_');
    hashed(&listed, &mut text);
    text.into()
}

/// JA4S of a ServerHello.
pub(super) fn ja4s(
    carrier: Carrier,
    version: u16,
    cipher: u16,
    extensions: &[u16],
    alpn: &[u8],
) -> SmolStr {
    let mut text = String::with_capacity(25);
    text.push(carrier.letter());
    text.push_str(version_name(version));
    count(extensions.len(), &mut text);
    text.extend(ends(alpn));
    text.push('_');
    text.extend(cipher.to_be_bytes().into_iter().flat_map(digits).map(char::from));
    text.push('_');
    let mut listed = Vec::new();
    list(extensions, &mut listed);
    hashed(&listed, &mut text);
    text.into()
}

/// How many, in two digits, 99 at most.
fn count(number: usize, text: &mut String) {
    let number = number.min(99) as u8;
    text.extend([number / 10, number % 10].map(|digit| char::from(b'0' + digit)));
}

/// Numbers in hex, with commas in between.
fn list(numbers: &[u16], text: &mut Vec<u8>) {
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let [high, low] = number.to_be_bytes().map(digits);
        text.extend_from_slice(&[high[0], high[1], low[0], low[1]]);
    }
}

/// The first twelve digits of the SHA-256; of nothing, zeros.
fn hashed(text: &[u8], into: &mut String) {
    if text.is_empty() {
        into.push_str("000000000000");
    } else {
        let all = digest(&SHA256, text);
        into.extend(all.as_ref().iter().take(6).flat_map(|&octet| digits(octet)).map(char::from));
    }
}

/// The first and last character of an ALPN value; of one that does not begin and end with letters or digits, of
/// its hex digits.
fn ends(alpn: &[u8]) -> [char; 2] {
    let (Some(&first), Some(&last)) = (alpn.first(), alpn.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [first.into(), last.into()];
    }
    [digits(first)[0], digits(last)[1]].map(char::from)
}

fn version_name(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 | 0x0200 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of FoxIO's technical details.
    #[test]
    fn the_example_of_the_specification() {
        let real = |numbers: &[u16]| numbers.iter().copied().filter(is_real).collect();
        let offered = Offered {
            legacy_version: 0x0303,
            versions: real(&[0x0a0a, 0x0304, 0x0303]),
            ciphers: real(&[
                0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ]),
            extensions: real(&[
                0x2a2a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005,
                0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ]),
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            alpn: vec![b"h2", b"http/1.1"],
            ..Offered::default()
        };
        assert_eq!(ja4(Carrier::Tcp, offered), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn nothing_offered_is_zeros_and_strange_protocols_are_hex() {
        let offered = Offered { legacy_version: 0x0301, ..Offered::default() };
        assert_eq!(ja4(Carrier::Tcp, offered), "t10i000000_000000000000_000000000000");
        assert_eq!(ends(b"\xab"), ['a', 'b']);
        assert_eq!(ends(b"0\xab"), ['3', 'b']);
        assert_eq!((ends(b"h2"), ends(b"x")), (['h', '2'], ['x', 'x']));
    }
}
