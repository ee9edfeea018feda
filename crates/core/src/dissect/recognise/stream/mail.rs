//! The protocols of lines in which a server greets with a code and a client answers with commands:
//! FTP, SMTP, POP3, IMAP and NNTP. FTP and SMTP both greet with "220", POP3 and others both with
//! "+OK": the greeting's words or the client's command tell them apart.

use super::octets::{Fit, begins_with_one, both, contains, either, line};
use super::{ApplicationProtocol, Look, Said};

/// The client's and the server's octets. The server is who begins with one of these codes, or with the begin of
/// one: no command begins so.
fn parties<'a>(said: &Said<'a>, codes: &[&[u8]]) -> [&'a [u8]; 2] {
    let serves =
        |octets: &[u8]| !octets.is_empty() && begins_with_one(octets, codes) != Fit::Against;
    match serves(said.initiator) && !serves(said.responder) {
        true => [said.responder, said.initiator],
        false => [said.initiator, said.responder],
    }
}

/// Whether a whole first line of printable text begins with one of these commands, in whatever
/// case, and the command ends there.
fn command(octets: &[u8], known: &[&str]) -> Fit {
    // Most streams are none of these: the words are looked at before the line's end is searched, and
    // before those whether it can be a word.
    let may = |word: &&str| {
        octets.iter().zip(word.as_bytes()).all(|(octet, letter)| octet.eq_ignore_ascii_case(letter))
    };
    let is_word = octets.first().is_none_or(u8::is_ascii_alphabetic);
    if !is_word || !known.iter().any(may) {
        return Fit::Against;
    }
    let (text, whole) = match line(octets) {
        Some((line, _)) => (line, true),
        None => (octets.strip_suffix(b"\r").unwrap_or(octets), false),
    };
    let same = |word: &&str| {
        let mut pairs = text.iter().zip(word.as_bytes());
        let agrees = pairs.all(|(octet, letter)| octet.eq_ignore_ascii_case(letter));
        let after = text.get(word.len());
        let ends = after.is_none_or(|&next| next == b' ' || !word.ends_with(char::is_alphanumeric));
        agrees && ends && (text.len() >= word.len() || !whole)
    };
    match known.iter().any(same)
        && text.iter().all(|&octet| octet >= b' ' || octet == b'\r' || octet == b'\t')
    {
        true if whole => Fit::Sure,
        true if text.len() < 1024 => Fit::Open,
        _ => Fit::Against,
    }
}

/// Whether the server's first line begins with one of these codes.
fn answer(octets: &[u8], codes: &[&str]) -> Fit {
    // "220 " and "220-" alike.
    let begins = |code: &&str| octets.iter().zip(code.as_bytes()).all(|(a, b)| a == b);
    match codes.iter().any(begins) {
        true if codes.iter().any(|code| octets.starts_with(code.as_bytes())) => Fit::Sure,
        true => Fit::Open,
        false => Fit::Against,
    }
}

/// The first line of a greeting that begins like this, in upper case as far as it is needed to find words
/// in it.
fn greeting(octets: &[u8], begin: &[u8]) -> Option<Vec<u8>> {
    let (line, _) = octets.starts_with(begin).then(|| line(octets))??;
    Some(line.get(..line.len().min(512)).unwrap_or_default().to_ascii_uppercase())
}

/// SMTP: a client's EHLO, HELO, LHLO or envelope; a greeting that says SMTP; or extensions that a
/// server lists. RFC 5321, 3.1, 4.1 and 4.2; RFC 2033.
pub(super) fn smtp(said: &Said<'_>) -> Look {
    let [client, server] = parties(said, &[b"220", b"250"]);
    let spoken = command(client, &["EHLO ", "HELO ", "LHLO ", "MAIL FROM:", "RCPT TO:"]);
    let greeted = match answer(server, &["220 ", "220-", "250-"]) {
        Fit::Sure if server.starts_with(b"250") => {
            let known: [&[u8]; 4] =
                [b"250-8BITMIME", b"250-PIPELINING", b"250-STARTTLS", b"250-ENHANCEDSTATUSCODES"];
            match known.iter().any(|extension| {
                contains(server.get(..server.len().min(512)).unwrap_or_default(), extension)
            }) {
                true => Fit::Sure,
                false if server.len() < 512 => Fit::Open,
                false => Fit::Against,
            }
        }
        // Many say who they are and not what: the client's word is waited for.
        Fit::Sure => match greeting(server, b"220") {
            Some(line) if contains(&line, b"SMTP") && !contains(&line, b"FTP") => Fit::Sure,
            _ => Fit::Open,
        },
        fit => fit,
    };
    match (spoken, greeted) {
        (Fit::Against, fit) if !client.is_empty() && fit != Fit::Sure => Look::No,
        (Fit::Sure, Fit::Against) => Look::No,
        fits => either([fits.0, fits.1], ApplicationProtocol::SMTP),
    }
}

/// FTP's control connection: a greeting that says FTP, a log-in or another command of FTP's with
/// an answer that belongs to it, or a data connection being agreed. RFC 959, 4.1 and 4.2; RFC
/// 2228; RFC 2428.
pub(super) fn ftp(said: &Said<'_>) -> Look {
    const CODES: [&str; 8] = ["220 ", "220-", "331 ", "230 ", "230-", "234 ", "530 ", "215 "];
    const COMMANDS: [&str; 12] = [
        "USER ", "PASS ", "AUTH TLS", "AUTH SSL", "FEAT", "SYST", "PBSZ ", "OPTS ", "PASV", "EPSV",
        "CWD ", "PWD",
    ];
    let what = ApplicationProtocol::FTP_CONTROL;
    let [client, server] = parties(said, &[b"220", b"331", b"230", b"227 ", b"229 "]);
    let agreed =
        answer(server, &["227 Entering Passive Mode (", "229 Entering Extended Passive Mode (|||"]);
    if agreed == Fit::Sure {
        return Look::Is(what);
    }
    match (greeting(server, b"220"), answer(server, &CODES)) {
        (Some(line), _) if contains(&line, b"FTP") && !contains(&line, b"SMTP") => Look::Is(what),
        (_, Fit::Against) if agreed == Fit::Open => Look::More,
        (_, answered) => both([command(client, &COMMANDS), answered], what),
    }
}

/// POP3: a greeting that says POP3, or "+OK" to a command. RFC 1939, sections 4 to 7; RFC 2449;
/// RFC 2595.
pub(super) fn pop3(said: &Said<'_>) -> Look {
    const COMMANDS: [&str; 12] = [
        "USER ", "PASS ", "APOP ", "CAPA", "AUTH", "STLS", "QUIT", "STAT", "LIST", "UIDL", "RETR ",
        "UTF8",
    ];
    let [client, server] = parties(said, &[b"+OK", b"-ERR"]);
    let answered = answer(server, &["+OK", "-ERR "]);
    match greeting(server, b"+OK ") {
        Some(line) if contains(&line, b"POP3") => Look::Is(ApplicationProtocol::POP3),
        _ => both([command(client, &COMMANDS), answered], ApplicationProtocol::POP3),
    }
}

/// IMAP: a greeting or list of capabilities that says IMAP, or an untagged status to a tagged
/// command. RFC 9051 (RFC 3501), 2.2, 6 and 7.
pub(super) fn imap(said: &Said<'_>) -> Look {
    const COMMANDS: [&str; 16] = [
        "CAPABILITY",
        "LOGIN ",
        "STARTTLS",
        "AUTHENTICATE ",
        "ID ",
        "NOOP",
        "LOGOUT",
        "SELECT ",
        "EXAMINE ",
        "LIST ",
        "LSUB ",
        "UID ",
        "FETCH ",
        "IDLE",
        "STATUS ",
        "NAMESPACE",
    ];
    let [client, server] = parties(said, &[b"* "]);
    let answered = answer(server, &["* OK", "* PREAUTH ", "* BYE ", "* CAPABILITY "]);
    // A tag of up to 16 letters and digits stands before the command.
    let tag = client
        .iter()
        .take(17)
        .take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'.')
        .count();
    let spoken = match client.get(tag) {
        // None that is cut off behind so many is seen, and words begin so.
        None if tag > 8 => Fit::Against,
        None => Fit::Open,
        Some(b' ') if tag > 0 => command(client.get(tag + 1..).unwrap_or_default(), &COMMANDS),
        Some(_) => Fit::Against,
    };
    match greeting(server, b"* ") {
        Some(line) if answered == Fit::Sure && contains(&line, b"IMAP") => {
            Look::Is(ApplicationProtocol::IMAP)
        }
        _ => both([spoken, answered], ApplicationProtocol::IMAP),
    }
}

/// NNTP: a greeting that says NNTP, or one of 200 and 201 and a reader's or another server's
/// command. RFC 3977, 5.1 to 5.3 and 6; RFC 4643.
pub(super) fn nntp(said: &Said<'_>) -> Look {
    const COMMANDS: [&str; 15] = [
        "CAPABILITIES",
        "MODE READER",
        "MODE STREAM",
        "AUTHINFO ",
        "GROUP ",
        "LIST",
        "ARTICLE",
        "OVER",
        "XOVER ",
        "HEAD ",
        "BODY ",
        "DATE",
        "POST",
        "IHAVE ",
        "NEWNEWS ",
    ];
    let [client, server] = parties(said, &[b"200 ", b"201 "]);
    let answered = answer(server, &["200 ", "201 "]);
    match greeting(server, b"20") {
        Some(line)
            if answered == Fit::Sure && (contains(&line, b"NNTP") || contains(&line, b"INN ")) =>
        {
            Look::Is(ApplicationProtocol::USENET)
        }
        _ => both([command(client, &COMMANDS), answered], ApplicationProtocol::USENET),
    }
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn who_greets_with_220() {
        let both: (&[u8], &[u8]) = (b"", b"220 example.org ready\r\n");
        expect(
            smtp,
            1,
            &[
                (b"", b"220 mx ESMTP\r\n", Is(Protocol::SMTP)),
                (b"ehlo me\r\n", both.1, Is(Protocol::SMTP)),
                (both.0, both.1, More),
                (b"USER me\r\n", both.1, No),
                (b"", b"250-mx\r\n250-PIPELINING\r\n", Is(Protocol::SMTP)),
            ],
        );
        expect(
            ftp,
            1,
            &[
                (b"", b"220 FTP server\r\n", Is(Protocol::FTP_CONTROL)),
                (b"USER me\r\n", both.1, Is(Protocol::FTP_CONTROL)),
                (both.0, both.1, More),
                (b"EHLO me\r\n", both.1, No),
                (b"USER me\r\n", b"+OK\r\n", No),
                (
                    b"PASV\r\n",
                    b"227 Entering Passive Mode (1,2,3,4,5,6)\r\n",
                    Is(Protocol::FTP_CONTROL),
                ),
            ],
        );
    }

    #[test]
    fn who_reads_mail_and_news() {
        expect(
            pop3,
            1,
            &[
                (b"USER me\r\n", b"+OK ready\r\n", Is(Protocol::POP3)),
                (b"*1\r\n$4\r\nPING\r\n", b"+OK\r\n", No),
                (b"", b"+OK POP3 ready\r\n", Is(Protocol::POP3)),
            ],
        );
        expect(
            imap,
            1,
            &[
                (b"a1 LOGIN me pw\r\n", b"* OK ready\r\n", Is(Protocol::IMAP)),
                (b"a1 LOGIM me pw\r\n", b"* OK ready\r\n", No),
                (b"", b"* OK [CAPABILITY IMAP4rev1] ready\r\n", Is(Protocol::IMAP)),
            ],
        );
        expect(
            nntp,
            1,
            &[
                (b"MODE READER\r\n", b"200 news ready\r\n", Is(Protocol::USENET)),
                (b"MODE READERS\r\n", b"200 news ready\r\n", No),
            ],
        );
    }
}
