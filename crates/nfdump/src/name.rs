//! A user name is the text nfdump prints for `%uname`: at most 65 bytes and a NUL.
//!
//! The bound is the field's: element 24 holds 66 bytes of name, the last of them a NUL. The name
//! is cut at a character boundary, so what is stored is UTF-8 again. Nothing else is changed or
//! refused here; commas, quotes and control characters are the caller's business.

use std::fmt;

/// The longest name, in bytes, without its NUL.
const LONGEST: usize = 65;

/// The name to write into a flow; empty means "write none".
///
/// Fill it with [`set`](Self::set) or with `write!`. What does not fit is cut off, and so is
/// everything from a NUL on, since readers stop there.
#[derive(Clone)]
pub struct UserName {
    bytes: [u8; LONGEST],
    length: usize,
    cut: bool,
}

impl UserName {
    /// An empty name.
    pub fn new() -> Self {
        Self { bytes: [0; LONGEST], length: 0, cut: false }
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

    /// Makes the name empty again.
    pub fn clear(&mut self) {
        self.length = 0;
        self.cut = false;
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
        let mut end = room.saturating_sub(1);
        // Continuation bytes are 10xxxxxx: a cut in front of one would split a character.
        while end > 0 && name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        &name[..end]
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
