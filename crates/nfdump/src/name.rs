//! A user name is the text nfdump prints for `%uname`: at most 65 bytes and a NUL.
//!
//! The bound is the field's: element 24 holds 66 bytes of name, the last of them a NUL. The name
//! is cut at a character boundary, so what is stored is UTF-8 again. Nothing else is changed or
//! refused here; commas, quotes and control characters are the caller's business.

use std::fmt;

/// The longest name, in bytes, without its NUL.
const LONGEST: usize = 65;

/// Room for a name and another one behind it, so that all bytes of one can be copied, whatever its length.
const SPACE: usize = 136;

/// What element 24 holds: the longest name, a NUL, and fill.
pub(crate) const FIELD: usize = 68;

/// The name to write into a flow; empty means "write none".
///
/// Fill it with [`set`](Self::set) or with `write!`. What does not fit is cut off, and so is
/// everything from a NUL on, since readers stop there.
#[derive(Clone)]
pub struct UserName {
    /// All 0 from the name's end on.
    bytes: [u8; SPACE],
    length: usize,
    cut: bool,
}

impl UserName {
    /// An empty name.
    pub const fn new() -> Self {
        Self { bytes: [0; SPACE], length: 0, cut: false }
    }

    /// Replaces the name.
    pub fn set(&mut self, name: &str) {
        self.clear();
        self.push(name);
    }

    /// Appends to the name.
    pub fn append(&mut self, text: &str) {
        self.push(text);
    }

    /// Appends another name. This is the quickest way to put together what is written many times.
    #[inline]
    pub fn append_name(&mut self, other: &Self) {
        if self.cut {
            return;
        }
        if let Some(rest) = self.bytes[self.length..].first_chunk_mut::<LONGEST>()
            && let Some(name) = other.bytes.first_chunk()
        {
            *rest = *name;
        }
        self.length += other.length;
        self.cut = other.cut;
        if self.length > LONGEST {
            self.cut_to_fit();
        }
    }

    #[cold]
    fn cut_to_fit(&mut self) {
        self.cut = true;
        self.length = whole_characters(&self.bytes, LONGEST);
        self.bytes[self.length..].fill(0);
    }

    /// Makes the name empty again.
    #[inline]
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The name so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether the name is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The name without what a field of `room` bytes, its NUL among them, cannot take.
    pub(crate) fn fitting(&self, room: usize) -> &[u8] {
        let name = self.as_bytes();
        if name.len() < room {
            return name;
        }
        &name[..whole_characters(name, room.saturating_sub(1))]
    }

    /// The name as element 24 holds it.
    #[inline]
    pub(crate) fn field(&self) -> &[u8; FIELD] {
        self.bytes.first_chunk().unwrap_or(&[0; FIELD])
    }

    /// Appends; after a cut nothing more is taken, else "long…x" could end in a later piece.
    fn push(&mut self, text: &str) {
        if self.cut {
            return;
        }
        let text = match text.find('\0') {
            Some(nul) => {
                self.cut = true;
                &text[..nul]
            }
            None => text,
        };
        let mut end = text.len().min(LONGEST - self.length);
        if end < text.len() {
            self.cut = true;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
        }
        self.bytes[self.length..self.length + end].copy_from_slice(&text.as_bytes()[..end]);
        self.length += end;
    }
}

/// How many of the first `most` bytes are whole characters.
fn whole_characters(name: &[u8], most: usize) -> usize {
    let mut end = most;
    // Continuation bytes are 10xxxxxx: a cut in front of one would split a character.
    while end > 0 && name[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    end
}

impl Default for UserName {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for UserName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserName({:?})", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn a_name_is_cut_at_65_bytes_between_characters() {
        let mut name = UserName::new();
        name.set(&"x".repeat(70));
        assert_eq!(name.as_bytes(), "x".repeat(65).as_bytes());
        name.set(&"ä".repeat(40));
        assert_eq!(name.as_bytes(), "ä".repeat(32).as_bytes());
        write!(name, "x").unwrap();
        assert_eq!(name.as_bytes().len(), 64, "nothing is added after a cut");
    }

    #[test]
    fn names_are_put_together_as_texts_are() {
        let texts = [
            "",
            "a",
            ">",
            "ntpd",
            "ä",
            "ng\0inx",
            &"x".repeat(64),
            &"ä".repeat(40),
            &"プ".repeat(21),
        ];
        for first in texts {
            for second in texts {
                for third in texts {
                    let (mut name, mut expected) = (UserName::new(), UserName::new());
                    for text in [first, second, third] {
                        expected.append(text);
                        let mut part = UserName::new();
                        part.set(text);
                        name.append_name(&part);
                    }
                    assert_eq!(name.as_bytes(), expected.as_bytes(), "{first} {second} {third}");
                    assert_eq!((name.bytes, name.cut), (expected.bytes, expected.cut));
                    let (text, rest) = name.field().split_at(name.as_bytes().len());
                    assert!(text == name.as_bytes() && rest.iter().all(|&byte| byte == 0));
                }
            }
        }
    }

    #[test]
    fn a_name_ends_at_a_nul() {
        let mut name = UserName::new();
        name.set("ng\0inx");
        write!(name, "tail").unwrap();
        assert_eq!(name.as_bytes(), b"ng");
        name.clear();
        let (pid, command) = (17, "ntpd");
        write!(name, "{pid}/{command}").unwrap();
        assert_eq!(name.as_bytes(), b"17/ntpd");
    }

    #[test]
    fn a_short_field_takes_whole_characters() {
        let mut name = UserName::new();
        name.set("abcdefghijklmnopqrstuvwxyz");
        assert_eq!(name.fitting(24), b"abcdefghijklmnopqrstuvw");
        assert_eq!(name.fitting(66), name.as_bytes());
        name.set("aaaaaaaaaaaaaaaaaaaaaaプ");
        assert_eq!(name.fitting(24), b"aaaaaaaaaaaaaaaaaaaaaa");
        name.set("プ");
        assert_eq!(name.fitting(1), b"");
        assert_eq!(name.fitting(0), b"");
    }
}
