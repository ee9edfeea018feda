//! Harmless text: what others chose - idents, user names, names of files - as a terminal may see it.
//!
//! Control characters move the cursor and rename windows, and direction marks make text look like
//! other text. Both are written as escapes, `\u{202e}` for people and `\u202e` in JSON, where it
//! is the same string.

use std::io::{self, Write};
use std::path::Path;

use serde_json::ser::Formatter;

/// Whether a terminal shows this character as itself, next to the others.
fn harmless(c: char) -> bool {
    matches!(c, '\'' | '"') || c.escape_debug().count() == 1
}

/// Bytes that should be UTF-8, for people.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        if harmless(c) {
            text.push(c);
        } else {
            text.extend(c.escape_debug());
        }
    }
    text
}

/// A path, for people.
pub(crate) fn path(path: &Path) -> String {
    text(path.as_os_str().as_encoded_bytes())
}

/// JSON on one line, with everything escaped that a terminal would not show as itself.
pub(crate) struct Json;

impl Formatter for Json {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        for c in fragment.chars() {
            if harmless(c) {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    const EVIL: &str = "\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\n\r\t\u{202e}\u{200b}\u{feff}\\";

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let text = text(EVIL.as_bytes());
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert!(text.contains("\\u{1b}]0;x\\u{7}\\u{9b}2J"), "{text}");
        assert_eq!(super::text("it's \"Zoë\" 日本".as_bytes()), "it's \"Zoë\" 日本");
        assert_eq!(super::text(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn json_is_the_same_string_and_as_harmless() {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Json);
        let both = format!("{EVIL}\"ä日\u{e0041}");
        both.serialize(&mut serializer).unwrap();
        assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), both);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.chars().all(harmless_or_escape), "{text}");
    }

    fn harmless_or_escape(c: char) -> bool {
        harmless(c) || c == '\\'
    }
}
