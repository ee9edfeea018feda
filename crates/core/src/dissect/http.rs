//! HTTP/1 (RFC 9112) as far as its first request and its first answer say who talks; and that HTTP/2 begins
//! (RFC 9113 section 3.4), whose headers are not read.
//!
//! Of a path its length is kept, of cookies and credentials nothing. Who asks for paths gets them with the
//! values in their query strings blanked.

use serde::Serialize;
use smol_str::SmolStr;

use super::text::shown;
use super::{ApplicationProtocol, Look, Said};

/// A header section of more octets is read as far as that.
const SECTION: usize = 16 << 10;

/// So many header fields of a section are read.
const FIELDS: usize = 64;

/// What the first request and its answer say. Of what goes through a tunnel that CONNECT opens nothing is among it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Http {
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<SmolStr>,
    /// The Host field, as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<SmolStr>,
    /// How many octets the request target has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_length: Option<u32>,
    /// The path, if somebody asked for it, with the values of its query blanked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<SmolStr>,
    /// The User-Agent field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<SmolStr>,
    /// 1 or 2.
    pub version: u8,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The Content-Type field of the answer; of the request, if that has one and the answer has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<SmolStr>,
    /// The Server field of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SmolStr>,
    /// What the connection is upgraded to (RFC 9110 section 7.8), if the server agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<SmolStr>,
}

/// The methods of RFC 9110, PATCH (RFC 5789), WebDAV (RFC 4918) and those that UPnP has.
const METHODS: [&[u8]; 19] = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
];

/// What an HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What an answer begins with.
const ANSWER: &[u8] = b"HTTP/";

/// Whether this begins a request: `None` if that cannot be said yet.
fn is_request(octets: &[u8]) -> Option<bool> {
    let begin = octets.get(..PREFACE.len()).unwrap_or(octets);
    if PREFACE.starts_with(begin) {
        return (begin.len() == PREFACE.len()).then_some(true);
    }
    let Some(end) = octets.iter().take(12).position(|&octet| octet == b' ') else {
        let may = octets.len() < 12 && METHODS.iter().any(|method| method.starts_with(octets));
        return if may { None } else { Some(false) };
    };
    if !METHODS.contains(&&octets[..end]) {
        return Some(false);
    }
    // A request target: a path, a URI, an authority or an asterisk (RFC 9112 section 3.2).
    let target = octets.get(end + 1..)?;
    let &first = target.first()?;
    if !first.is_ascii_graphic() {
        return Some(false);
    }
    let Some(line) = target.iter().position(|&octet| octet == b'\n') else {
        let text = target.iter().all(|&octet| octet >= b' ');
        // Targets of kilobytes are seen.
        return if text && target.len() < 64 { None } else { Some(text) };
    };
    let version = target[..line].trim_ascii_end();
    // RTSP and SIP have the same form.
    Some(
        version.windows(7).any(|window| window == b" HTTP/1")
            || first == b'/' && !version.contains(&b' '),
    )
}

/// Whether this begins an answer, likewise.
fn is_answer(octets: &[u8]) -> Option<bool> {
    let status = b"HTTP/1.";
    let begin = octets.get(..status.len()).unwrap_or(octets);
    if !status.starts_with(begin) {
        return Some(false);
    }
    (begin.len() == status.len()).then_some(true)
}

/// Recognises the first line of a request or an answer, or the preface of HTTP/2.
pub(super) fn recognise(said: &Said<'_>) -> Look {
    let either = |octets: &[u8]| match (is_request(octets), is_answer(octets)) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    };
    let heard = |octets: &[u8]| if octets.is_empty() { None } else { either(octets) };
    match (heard(said.initiator), heard(said.responder)) {
        (Some(true), _) | (_, Some(true)) => Look::Is(ApplicationProtocol::HTTP),
        (Some(false), _) | (_, Some(false)) => Look::No,
        _ => Look::More,
    }
}

/// The header section that one end sends first.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    octets: Vec<u8>,
    was_answer: bool,
}

impl Section {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether it is an answer, or was one.
    pub(super) fn is_answer(&self) -> bool {
        self.was_answer || self.octets.starts_with(ANSWER)
    }

    /// Takes in what follows; `may_ask` is whether this end may send a request. When the section is over: how
    /// many of these octets were its. (What is nearly the preface of HTTP/2 and is a request after all ends in
    /// front of them; nothing is read behind that.)
    pub(super) fn take(
        &mut self,
        octets: &[u8],
        may_ask: bool,
        paths: bool,
        http: &mut Http,
    ) -> Option<usize> {
        let had = self.octets.len();
        // In what may become the preface no empty line was looked for, and it has one.
        let searched = if PREFACE.starts_with(&self.octets) { 0 } else { had.saturating_sub(3) };
        let room = SECTION - had.min(SECTION);
        self.octets.extend_from_slice(octets.get(..room).unwrap_or(octets));
        let end = if self.octets.starts_with(PREFACE) {
            PREFACE.len()
        } else if PREFACE.starts_with(&self.octets) {
            // Its own first lines look like a request.
            return None;
        } else {
            match empty_line(&self.octets[searched..]) {
                Some(end) => searched + end,
                None if self.octets.len() < SECTION => return None,
                None => SECTION,
            }
        };
        self.octets.truncate(end);
        self.finish(may_ask, paths, http);
        Some(end.saturating_sub(had))
    }

    /// Reads what is there: nothing more comes. What is no answer is no request either if it comes from who is
    /// asked.
    pub(super) fn finish(&mut self, may_ask: bool, paths: bool, http: &mut Http) {
        self.was_answer = self.is_answer();
        let octets = std::mem::take(&mut self.octets);
        if octets.starts_with(PREFACE) {
            http.version = 2;
        } else if self.was_answer {
            http.answer(&octets);
        } else if may_ask {
            http.request(&octets, paths);
        }
    }
}

/// Where the first empty line ends.
fn empty_line(octets: &[u8]) -> Option<usize> {
    let ends = |at: usize| match &octets[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    };
    (0..octets.len()).find_map(ends)
}

/// The section with its end, if it is cut off: the lines that are whole.
fn whole_lines(octets: &[u8]) -> Vec<u8> {
    let end = octets.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    [&octets[..end], b"\r\n"].concat()
}

impl Http {
    fn request(&mut self, octets: &[u8], paths: bool) {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let cut;
        match request.parse(octets) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => {
                cut = whole_lines(octets);
                fields = [httparse::EMPTY_HEADER; FIELDS];
                request = httparse::Request::new(&mut fields);
                // As far as it can be read.
                let _ = request.parse(&cut);
            }
        }
        self.version = 1;
        self.method = request.method.map(|method| shown(method.as_bytes()));
        if let Some(path) = request.path {
            self.path_length = u32::try_from(path.len()).ok();
            if paths {
                self.path = Some(shown(blanked(path).as_bytes()));
            }
        }
        for field in request.headers.iter() {
            let place = match field.name {
                name if name.eq_ignore_ascii_case("host") => {
                    self.host.get_or_insert(shown(without_user(field.value)));
                    continue;
                }
                name if name.eq_ignore_ascii_case("user-agent") => &mut self.user_agent,
                name if name.eq_ignore_ascii_case("content-type") => &mut self.content_type,
                _ => continue,
            };
            place.get_or_insert(shown(field.value));
        }
    }

    fn answer(&mut self, octets: &[u8]) {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let cut;
        match answer.parse(octets) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => {
                cut = whole_lines(octets);
                fields = [httparse::EMPTY_HEADER; FIELDS];
                answer = httparse::Response::new(&mut fields);
                let _ = answer.parse(&cut);
            }
        }
        self.version = 1;
        self.status = answer.code;
        let mut upgrade = None;
        for field in answer.headers.iter() {
            match field.name {
                name if name.eq_ignore_ascii_case("server") => {
                    self.server.get_or_insert(shown(field.value));
                }
                name if name.eq_ignore_ascii_case("content-type") => {
                    self.content_type = Some(shown(field.value));
                }
                name if name.eq_ignore_ascii_case("upgrade") => upgrade = Some(shown(field.value)),
                _ => {}
            }
        }
        if answer.code == Some(101) {
            self.upgrade = upgrade;
        }
    }
}

/// An authority without the user information that nobody should put there (RFC 9110 section 4.2.4).
fn without_user(authority: &[u8]) -> &[u8] {
    authority.rsplit(|&octet| octet == b'@').next().unwrap_or_default()
}

/// A request target with all values blanked that may be somebody's: user information, the parameters of path
/// segments, the query; and without a fragment. Names tell what is asked, values who asks.
fn blanked(target: &str) -> String {
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let (front, path) = match path.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), path),
    };
    let (authority, path) = match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((name, _)) => format!("{name};"),
        None => segment.to_owned(),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let Some(query) = query else { return format!("{front}{authority}{path}") };
    let names = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if value.bytes().any(|octet| octet != b'=') => format!("{name}="),
        // It may be a value by itself, with padding perhaps.
        _ => String::new(),
    });
    format!("{front}{authority}{path}?{}", names.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Http {
        let mut http = Http::default();
        Section { octets: octets.to_vec(), was_answer: false }.finish(true, true, &mut http);
        http
    }

    #[test]
    fn values_in_a_query_are_blanked() {
        let http = read(b"GET /search?q=secret&page=2&token HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(http.path.unwrap(), "/search?q=&page=&");
        assert_eq!(http.path_length, Some(29));
        assert_eq!(http.host.unwrap(), "a.example");
        for (target, shown) in [
            ("/a;jsessionid=SECRET/b", "/a;/b"),
            ("/cb#access_token=SECRET", "/cb"),
            ("/logout?YWxpY2U6cGFzcw==", "/logout?"),
            ("http://alice:SECRET@h/x", "http://h/x"),
            ("alice:SECRET@h:443", "h:443"),
            ("*", "*"),
        ] {
            assert_eq!(blanked(target), shown);
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: alice:SECRET@h\r\n\r\n").host.unwrap(), "h");
    }

    #[test]
    fn a_section_that_is_cut_off_is_read_as_far_as_its_lines_are_whole() {
        let http = read(b"GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: half of i");
        assert_eq!((http.host.unwrap(), http.user_agent), ("a.example".into(), None));
    }

    #[test]
    fn requests_are_told_from_what_looks_like_them() {
        for (octets, is) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(true)),
            (b"GE", None),
            (b"GETTING / HTTP/1.1\r\n", Some(false)),
            (b"GET rtsp://a/b RTSP/1.0\r\n", Some(false)),
            (b"OPTIONS sip:a@b SIP/2.0\r\n", Some(false)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(true)),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"", None),
        ] {
            assert_eq!(is_request(octets), is, "{}", octets.escape_ascii());
        }
    }
}
