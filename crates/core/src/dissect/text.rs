//! Text that strangers sent, as it is kept: so many characters of it, and none that a terminal or a line of
//! rows would trip over.

use smol_str::SmolStr;

/// So many octets of a text are kept: a host name has no more (RFC 1035 section 2.3.4).
pub(super) const MOST: usize = 255;

/// Octets as text: what is no UTF-8 and what is a control character becomes the replacement character.
pub(super) fn shown(octets: &[u8]) -> SmolStr {
    let octets = octets.get(..MOST).unwrap_or(octets);
    let plain = |octet: &u8| (0x20..0x7f).contains(octet);
    if octets.iter().all(plain) {
        return std::str::from_utf8(octets).unwrap_or_default().into();
    }
    let text = String::from_utf8_lossy(octets);
    let plain = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    // What is replaced is longer than it was.
    let mut room = MOST;
    let fits = |c: &char| {
        let left = room.checked_sub(c.len_utf8());
        room = left.unwrap_or(0);
        left.is_some()
    };
    plain.take_while(fits).collect()
}

/// Texts with commas in between, as far as they fit into one.
pub(super) fn joined(texts: impl Iterator<Item = SmolStr>) -> Option<SmolStr> {
    let mut all = String::new();
    for text in texts {
        if all.len() + text.len() >= MOST {
            break;
        }
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&text);
    }
    (!all.is_empty()).then(|| all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_comes_through_and_no_more_than_so_many() {
        assert_eq!(shown(b"www.example.org"), "www.example.org");
        assert_eq!(shown(b"a\x1b[2J\r\n"), "a\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(shown("ä\u{9b}".as_bytes()), "ä\u{fffd}");
        assert_eq!(shown(&[b'x'; 1000]).len(), MOST);
        assert_eq!(shown(&[0xff; 1000]).len(), MOST);
        let many = || std::iter::repeat_n(SmolStr::new("name"), 1000);
        assert!(joined(many()).is_some_and(|all| all.len() <= MOST));
    }
}
