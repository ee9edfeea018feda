//! Redaction: what might be a secret in a command line is blacked out, before anything of it leaves
//! this crate.
//!
//! What a secret looks like is a guess: the name of an option or variable says so (`--password x`,
//! `DB_TOKEN=x`), or its place (`https://ada:x@host`, `mysql -px`), or its shape (`ghp_…`). **A secret
//! that none of this tells is not found**; patterns of one's own add to it. In doubt more is blacked
//! out than less: `sort --key=2` loses its 2.

use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// Last argument of a command line of which more is not told.
const CUT: &str = "[cut]";

/// So many arguments are told at most.
const MOST_ARGUMENTS: usize = 256;

/// So many bytes of arguments are told at most, their ends counted. Nobody reads more, so as many
/// means that there may be more; it is `ARGUMENTS` of `ebpf/programs/event.h`.
pub(crate) const MOST_BYTES: usize = 4096;

/// A regular expression (the `regex` crate's) for secrets.
///
/// It is matched against the command line as ps(1) prints it: the arguments, a space between two. Of
/// a match its first group is blacked out, or the whole where it has no group.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// A pattern that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression: {because}")]
pub struct BadPattern {
    because: String,
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        match Regex::new(text) {
            // Every character would be between two of them.
            Ok(regex) if regex.is_match("") => {
                Err(BadPattern { because: "it matches where nothing is".to_owned() })
            }
            Ok(regex) => Ok(Self(regex)),
            // The first lines draw where the error is; the last says what it is.
            Err(error) => {
                let said = error.to_string();
                let last = said.lines().last().unwrap_or_default();
                let because = last.trim_start_matches("error: ").to_owned();
                Err(BadPattern { because })
            }
        }
    }
}

/// How command lines are redacted.
#[derive(Clone, Debug)]
pub struct Redaction {
    guess: bool,
    patterns: Vec<Pattern>,
}

impl Default for Redaction {
    /// What usually is a secret.
    fn default() -> Self {
        Self { guess: true, patterns: Vec::new() }
    }
}

impl Redaction {
    /// With `guess`, what usually is a secret; and all that the patterns match.
    #[must_use]
    pub fn new(guess: bool, patterns: Vec<Pattern>) -> Self {
        Self { guess, patterns }
    }

    /// A command line as it may be told.
    pub(crate) fn apply(&self, arguments: Vec<String>) -> Vec<String> {
        let (mut arguments, cut) = bounded(arguments);
        let mut marks = Marks::default();
        let line = arguments.join(" ");
        if self.guess && RULES.hint.is_match(&line) {
            guess(&arguments, &mut marks);
        }
        for Pattern(pattern) in &self.patterns {
            for found in groups(pattern, &line) {
                marks.of_line(&arguments, &found);
            }
        }
        marks.black_out(&mut arguments);
        if cut {
            arguments.push(CUT.to_owned());
        }
        arguments
    }
}

/// As much of a command line as is told, and whether that is less than all.
///
/// Half a word could be half a secret, of which no pattern finds what tells it (the `@` behind a
/// password): of an argument that was cut only whole words are kept.
fn bounded(mut arguments: Vec<String>) -> (Vec<String>, bool) {
    let mut room = MOST_BYTES;
    let mut whole = 0;
    for argument in &arguments {
        // The last one, cut by whoever read it, lacks the byte that ends it.
        if argument.len() + 1 >= room || whole == MOST_ARGUMENTS {
            break;
        }
        room -= argument.len() + 1;
        whole += 1;
    }
    if whole == arguments.len() {
        return (arguments, false);
    }
    arguments.truncate(whole + 1);
    if let Some(mut last) = arguments.pop()
        && whole < MOST_ARGUMENTS
    {
        let mut end = room.min(last.len());
        while !last.is_char_boundary(end) {
            end -= 1;
        }
        last.truncate(end);
        last.truncate(last.trim_end_matches(|c: char| !c.is_whitespace()).trim_end().len());
        if !last.is_empty() {
            arguments.push(last);
        }
    }
    (arguments, true)
}

/// What is to be blacked out: parts of arguments.
#[derive(Default)]
struct Marks(Vec<(usize, Range<usize>)>);

impl Marks {
    fn add(&mut self, argument: usize, range: Range<usize>) {
        if !range.is_empty() {
            self.0.push((argument, range));
        }
    }

    /// Marks a part of the line that the arguments make, a space between two.
    fn of_line(&mut self, arguments: &[String], part: &Range<usize>) {
        let mut begin = 0;
        for (i, argument) in arguments.iter().enumerate() {
            let end = begin + argument.len();
            let (from, to) = (part.start.max(begin), part.end.min(end));
            if from < to {
                self.add(i, from - begin..to - begin);
            }
            begin = end + 1;
        }
    }

    fn black_out(mut self, arguments: &mut [String]) {
        self.0.sort_unstable_by_key(|(argument, range)| (*argument, range.start, range.end));
        // From the last to the first, so that what is still to be done stays where it is.
        let mut later: Option<(usize, Range<usize>)> = None;
        let mut joined: Vec<(usize, Range<usize>)> = Vec::new();
        for (argument, range) in self.0 {
            match &mut later {
                Some((same, before)) if *same == argument && range.start <= before.end => {
                    before.end = before.end.max(range.end);
                }
                _ => joined.extend(later.replace((argument, range))),
            }
        }
        joined.extend(later);
        for (argument, range) in joined.into_iter().rev() {
            if let Some(argument) = arguments.get_mut(argument) {
                argument.replace_range(range, REDACTED);
            }
        }
    }
}

/// Of each match the first group that took part, or the whole.
fn groups<'a>(regex: &'a Regex, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    regex.captures_iter(text).filter_map(|found| {
        let whole = usize::from(regex.captures_len() > 1);
        found.iter().skip(whole).flatten().next().map(|found| found.range())
    })
}

/// One word: an argument, or a part of one that a shell would take for one.
#[derive(Clone, Copy)]
struct Word<'a> {
    argument: usize,
    begin: usize,
    text: &'a str,
}

impl Word<'_> {
    fn mark(&self, range: Range<usize>, marks: &mut Marks) {
        marks.add(self.argument, self.begin + range.start..self.begin + range.end);
    }

    /// The name of the program, if it is a path or name of one.
    fn program(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or(self.text)
    }
}

/// Marks what usually is a secret.
fn guess(arguments: &[String], marks: &mut Marks) {
    let word = |(argument, text)| Word { argument, begin: 0, text };
    let words: Vec<Word<'_>> = arguments.iter().map(String::as_str).enumerate().map(word).collect();
    options(&words, marks);
    for (i, argument) in arguments.iter().enumerate() {
        // `sh -c 'mysql -psecret'`
        if argument.contains(char::is_whitespace) {
            options(&shell_words(i, argument), marks);
        }
        for rule in RULES.any.matches(argument) {
            let rule = RULES.anywhere.get(rule);
            for found in rule.into_iter().flat_map(|rule| groups(rule, argument)) {
                marks.add(i, found);
            }
        }
    }
}

/// Marks what the names of options and variables say.
fn options(words: &[Word<'_>], marks: &mut Marks) {
    let mut short: Option<&Short> = None;
    // The option before said that the secret comes now.
    let mut expected = false;
    for word in words {
        if RULES.program.is_match(word.program())
            && let Some(rule) = RULES.short.iter().find(|rule| rule.is_for(word, words))
        {
            short = Some(rule);
        }
        let is_option = word.text.starts_with('-') && !word.text.starts_with("--no-");
        let named = is_option && RULES.option.is_match(word.text);
        let by_letter = short.and_then(|short| short.option.captures(word.text).zip(Some(short)));
        let was_expected = std::mem::replace(&mut expected, named);
        let assigned = word.text.contains(['=', ':']);
        let value = if assigned { RULES.assignment.captures(word.text) } else { None };
        if let Some(value) = value.and_then(|found| found.get(1)) {
            word.mark(value.range(), marks);
        } else if let Some((found, short)) = by_letter {
            match found.get(1) {
                Some(value) if !value.is_empty() => word.mark(value.range(), marks),
                _ => expected |= short.separate,
            }
        } else if named {
            continue;
        }
        if was_expected {
            word.mark(0..word.text.len(), marks);
        }
    }
}

/// The words of a text as a shell would take them; quotes stay in them.
fn shell_words(argument: usize, text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut begin = None;
    let mut quote = None;
    let mut escaped = false;
    let mut end_word = |begin: Option<usize>, end: usize| {
        let Some(begin) = begin else { return };
        let whole = text.get(begin..end).unwrap_or_default();
        let inner = whole.trim_start_matches(['"', '\'']);
        let begin = begin + (whole.len() - inner.len());
        words.push(Word { argument, begin, text: inner.trim_end_matches(['"', '\'']) });
    };
    for (at, c) in text.char_indices() {
        let between = quote.is_none() && !escaped && (c.is_whitespace() || ";|&()".contains(c));
        if between {
            end_word(begin.take(), at);
            continue;
        }
        begin.get_or_insert(at);
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    end_word(begin, text.len());
    words
}

/// An option of one letter that some programs take a secret with.
struct Short {
    program: Regex,
    /// Only with this command of the program.
    command: Option<&'static str>,
    /// Its first group is the secret, when it stands in the same word.
    option: Regex,
    /// Whether it may also stand in the next.
    separate: bool,
}

impl Short {
    fn is_for(&self, word: &Word<'_>, words: &[Word<'_>]) -> bool {
        self.program.is_match(word.program())
            && self.command.is_none_or(|command| words.iter().any(|word| word.text == command))
    }
}

/// All that tells a secret.
struct Rules {
    /// Where this does not match, none of the others does: a quick look at the whole line.
    hint: Regex,
    /// A program of `short`.
    program: Regex,
    /// An option whose value is a secret.
    option: Regex,
    /// A word that gives a name to a secret, up to its end.
    assignment: Regex,
    short: Vec<Short>,
    /// What is found in the midst of an argument.
    anywhere: Vec<Regex>,
    /// The same in one, which says which of them to try.
    any: RegexSet,
}

/// A name ends in one of these, ...
const STRONG: &str = "(?:passw(?:or)?d|passphrase|passcode|pwd|secret|token|credential|apikey|\
                      (?:access|secret|private|auth|account)key)s?";
/// ... or its last word is one of these.
const WEAK: &str = "(?:pass|pw|keys?|auth|authorization|creds?|passin|passout|cookie)";

/// Up to where a value may reach in the midst of a text.
const VALUE: &str = r#"("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s&;"']+)"#;

/// Programs, their option, whether the secret may be in the next word, and the command.
#[rustfmt::skip]
const SHORT: [(&str, &str, bool, Option<&str>); 12] = [
    ("mysql.*|mariadb.*", "^-p(.+)", false, None),
    ("7z[arz]?|rar|unrar", "^-h?p(.+)", false, None),
    ("sshpass|mongo.*|rabbitmqadmin", "^-p(.*)", true, None),
    ("docker|podman|nerdctl|buildah|skopeo|helm|az", "^-p(.*)", true, Some("login")),
    ("curl", "(?i)^(?:-[a-z#0-9]*u|--(?:proxy-)?user(?:=|$))(.*)", true, None),
    ("lftp", "^-u(.*)", true, None),
    ("(?:redis|keydb|valkey)-cli", "^-a(.*)", true, None),
    ("ldap.*", "^-[a-zA-Z]*w(.*)", true, None),
    ("smbclient|rpcclient|smbget", "^-U(.*)", true, None),
    ("sqlcmd|bcp|(?:un)?zip|ipmitool", "^-P(.*)", true, None),
    ("openssl", "^-k()$", true, None),
    ("snmp.*", "^-[AXc](.*)", true, None),
];

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    // All are fixed, and every test below compiles them.
    let regex = |text: &str| Regex::new(text).expect("a fixed regular expression");
    let name = format!("(?:[a-z0-9_.-]*{STRONG}|(?:[a-z0-9_.-]*[_.-])?{WEAK})");
    let short = SHORT.map(|(program, option, separate, command)| Short {
        program: regex(&format!("^(?:{program})$")),
        command,
        option: regex(&format!("(?s){option}")),
        separate,
    });
    let anywhere = [
        // Names in the midst of a text: queries, JSON, connection strings, headers.
        &format!(r#"(?is){STRONG}["']?\s*[=:]\s*{VALUE}"#),
        &format!(r#"(?is)\b{WEAK}(?:["']?\s*=|["']\s*:)\s*{VALUE}"#),
        r#"(?i)\b(?:authorization|cookie)["']?\s*[=:]\s*["']?([^"'\r\n]+)"#,
        r#"(?i)\bbearer\s+([^\s"']+)"#,
        // RFC 3986, 3.2.1: userinfo. Some sites take a token for the user.
        r"://[^\s/?#:@]*:([^\s/?#]+)@",
        r"://([^\s/?#:@]+):(?:x-oauth-basic)?@",
        // Keys that show what they are.
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|[sr]k_live_|xox[abeprs]-|AIza|npm_|hvs\.)[A-Za-z0-9_-]{16,}",
        r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY.*",
    ];
    let programs = SHORT.map(|(program, ..)| program).join("|");
    Rules {
        hint: regex(&format!(
            r"(?i)pass|pwd?|secret|token|cred|key|auth|cookie|bearer|://|AKIA|ASIA|gh[pousr]_|github_pat|glpat|sk-|k_live|xox|AIza|npm_|hvs\.|eyJ|{programs}"
        )),
        program: regex(&format!("^(?:{programs})$")),
        option: regex(&format!("(?i)^--?{name}$")),
        assignment: regex(&format!(r#"(?is)^-{{0,2}}{name}["']?\s*[=:]\s*(.+)$"#)),
        short: short.into(),
        anywhere: anywhere.map(regex).into(),
        any: RegexSet::new(anywhere).expect("fixed regular expressions"),
    }
});

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|&word| word.to_owned()).collect()
    }

    #[track_caller]
    fn becomes(line: &[&str], wanted: &[&str]) {
        assert_eq!(Redaction::default().apply(words(line)), wanted);
    }

    #[track_caller]
    fn stays(line: &[&str]) {
        becomes(line, line);
    }

    #[test]
    fn a_secret_in_the_same_argument_is_found() {
        becomes(&["x", "--password=hunter2"], &["x", "--password=[redacted]"]);
        becomes(&["x", "--db-passwd=a b c"], &["x", "--db-passwd=[redacted]"]);
        becomes(&["x", "-token=t"], &["x", "-token=[redacted]"]);
        becomes(
            &["java", "-Dspring.datasource.password=x"],
            &["java", "-Dspring.datasource.password=[redacted]"],
        );
        becomes(
            &["x", "-Djavax.net.ssl.keyStorePassword=x"],
            &["x", "-Djavax.net.ssl.keyStorePassword=[redacted]"],
        );
        becomes(&["env", "PGPASSWORD=hunter2", "psql"], &["env", "PGPASSWORD=[redacted]", "psql"]);
        becomes(
            &["docker", "-e", "AWS_SECRET_ACCESS_KEY=wJalr/K7"],
            &["docker", "-e", "AWS_SECRET_ACCESS_KEY=[redacted]"],
        );
        becomes(&["x", "--env=DB_PASSWORD=x"], &["x", "--env=DB_PASSWORD=[redacted]"]);
        becomes(&["x", "-passin", "pass:x"], &["x", "-passin", "[redacted]"]);
        becomes(&["x", "MYSQL_PWD=x"], &["x", "MYSQL_PWD=[redacted]"]);
    }

    #[test]
    fn a_secret_in_the_next_argument_is_found() {
        for option in [
            "--password",
            "-password",
            "--passwd",
            "--pwd",
            "--pass",
            "--token",
            "--access-token",
            "--accessToken",
            "--client-secret",
            "--api-key",
            "--apikey",
            "--key",
            "--credential",
            "--credentials",
            "--auth",
            "--PASSWORD",
            "--passphrase",
        ] {
            becomes(&["x", option, "hunter2", "-v"], &["x", option, "[redacted]", "-v"]);
        }
        // An option is a secret when it stands where one must.
        becomes(&["x", "--password", "-dash"], &["x", "--password", "[redacted]"]);
        // One after the other without a value: the last one's is meant.
        becomes(
            &["x", "--password", "--token", "t"],
            &["x", "--password", "--token", "[redacted]"],
        );
        // An empty argument is the value; what follows is not.
        becomes(&["x", "--password", "", "file"], &["x", "--password", "", "file"]);
        becomes(&["x", "--password"], &["x", "--password"]);
    }

    #[test]
    fn some_programs_take_a_secret_by_a_letter() {
        becomes(
            &["/usr/bin/mysql", "-uroot", "-phunter2", "db"],
            &["/usr/bin/mysql", "-uroot", "-p[redacted]", "db"],
        );
        becomes(&["sudo", "mysqldump", "-px"], &["sudo", "mysqldump", "-p[redacted]"]);
        becomes(&["sshpass", "-p", "x", "ssh", "h"], &["sshpass", "-p", "[redacted]", "ssh", "h"]);
        becomes(
            &["curl", "-su", "ada:x", "https://h/"],
            &["curl", "-su", "[redacted]", "https://h/"],
        );
        becomes(&["curl", "--user", "ada:x"], &["curl", "--user", "[redacted]"]);
        becomes(&["curl", "--user=ada:x"], &["curl", "--user=[redacted]"]);
        becomes(
            &["redis-cli", "-a", "x", "GET", "y"],
            &["redis-cli", "-a", "[redacted]", "GET", "y"],
        );
        becomes(
            &["docker", "login", "-u", "a", "-p", "x"],
            &["docker", "login", "-u", "a", "-p", "[redacted]"],
        );
        stays(&["docker", "run", "-p", "80:80", "nginx"]);
        stays(&["mysql", "-p", "db"]);
        stays(&["ssh", "-p", "2222", "host"]);
        stays(&["grep", "-px", "mysql"]);
    }

    #[test]
    fn a_secret_within_a_text_is_found() {
        becomes(
            &["sh", "-c", "mysql -phunter2 db | gzip -p"],
            &["sh", "-c", "mysql -p[redacted] db | gzip -p"],
        );
        becomes(
            &["sh", "-c", "x --password 'my secret' -v"],
            &["sh", "-c", "x --password '[redacted]' -v"],
        );
        becomes(
            &["sh", "-c", "cd /; PGPASSWORD=x psql"],
            &["sh", "-c", "cd /; PGPASSWORD=[redacted] psql"],
        );
        becomes(
            &["curl", "https://ada:hunter2@example.org/a?b#c"],
            &["curl", "https://ada:[redacted]@example.org/a?b#c"],
        );
        becomes(&["x", "amqp://:p@ss@h:5672/"], &["x", "amqp://:[redacted]@h:5672/"]);
        becomes(
            &["git", "https://abcdef:x-oauth-basic@h/"],
            &["git", "https://[redacted]:[redacted]@h/"],
        );
        becomes(
            &["curl", "https://h/?a=1&access_token=xyz&b=2"],
            &["curl", "https://h/?a=1&access_token=[redacted]&b=2"],
        );
        becomes(
            &["curl", "-d", r#"{"user":"ada","password":"hunter2","n":1}"#],
            &["curl", "-d", r#"{"user":"ada","password":[redacted],"n":1}"#],
        );
        becomes(
            &["x", "Server=h;Password=x;User=y"],
            &["x", "Server=h;Password=[redacted];User=y"],
        );
        stays(&["curl", "http://h:8080/path?x=1", "ssh://git@github.com/x"]);
    }

    #[test]
    fn headers_and_keys_that_show_what_they_are_are_found() {
        becomes(
            &["curl", "-H", "Authorization: Bearer abc.def"],
            &["curl", "-H", "Authorization: [redacted]"],
        );
        becomes(
            &["sh", "-c", "curl -H 'Authorization: Basic YWRh' https://h"],
            &["sh", "-c", "curl -H 'Authorization: [redacted]' https://h"],
        );
        becomes(&["curl", "-HX-Api-Key: abc"], &["curl", "-HX-Api-Key: [redacted]"]);
        becomes(&["x", "say bearer abc"], &["x", "say bearer [redacted]"]);
        becomes(&["x", "AKIAIOSFODNN7EXAMPLE"], &["x", "[redacted]"]);
        becomes(&["x", "ghp_0123456789abcdefghij", "y"], &["x", "[redacted]", "y"]);
        becomes(&["x", "a eyJhbGciOiJI.eyJzdWIi.c2ln b"], &["x", "a [redacted] b"]);
        becomes(&["x", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"], &["x", "[redacted]"]);
    }

    #[test]
    fn what_is_no_secret_stays() {
        stays(&[]);
        stays(&["", "", "x", ""]);
        stays(&["ls", "-l", "/etc/passwd", "keys", "token"]);
        stays(&["x", "--password-file", "/run/x", "--no-password", "y", "--tokenizer", "gpt2"]);
        stays(&["x", "--key-file=/etc/x", "--monkey=1", "--bypass", "z"]);
        stays(&["docker", "run", "-v", "/etc/auth:/etc/auth"]);
    }

    #[test]
    fn texts_of_all_scripts_survive() {
        becomes(
            &["x", "--пароль=ü", "--password=pässwörd", "żółć"],
            &["x", "--пароль=ü", "--password=[redacted]", "żółć"],
        );
        becomes(
            &["x", "ü://ö:ä@ß token=\u{fffd}é 語"],
            &["x", "ü://ö:[redacted]@ß token=[redacted] 語"],
        );
    }

    #[test]
    fn own_patterns_add_to_it() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        let own = |guess, texts: &[&str]| {
            Redaction::new(guess, texts.iter().copied().map(pattern).collect())
        };
        let line = || words(&["x", "--pin", "1234", "customer-77", "--password=y"]);
        // The group alone, over the border of two arguments; the whole where there is no group.
        assert_eq!(
            own(false, &[r"--pin (\d+)", "customer-[0-9]+"]).apply(line()),
            ["x", "--pin", "[redacted]", "[redacted]", "--password=y"]
        );
        assert_eq!(
            own(true, &["pin 12"]).apply(line()),
            ["x", "--[redacted]", "[redacted]34", "customer-77", "--password=[redacted]"]
        );
        assert_eq!(own(false, &[]).apply(line()), line());
        // Where matches overlap, all of it goes, once.
        assert_eq!(
            own(true, &["word=y", "[a-z]+-77", "er-7"]).apply(line())[3..],
            ["[redacted]", "--pass[redacted]"]
        );
        // A group that took no part in the match leaves nothing to black out.
        assert_eq!(own(false, &["--pin|(never)"]).apply(line()), line());
    }

    #[test]
    fn a_bad_pattern_says_why() {
        let error = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert_eq!(error("a(b"), "not a regular expression: unclosed group");
        assert_eq!(error("a*"), "not a regular expression: it matches where nothing is");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let many = vec!["a".to_owned(); 300];
        let told = Redaction::default().apply(many);
        assert_eq!((told.len(), &told[255][..], &told[256][..]), (257, "a", CUT));
        stays(&vec!["a"; 256]);
    }

    #[test]
    fn a_cut_shows_no_half_of_a_secret() {
        let text = format!("one two https://ada:{}", "x".repeat(4096));
        for line in [vec!["sh", "-c", &text], vec!["sh", "-c", &text[..4090]]] {
            becomes(&line, &["sh", "-c", "one two", CUT]);
        }
        let wide = "é".repeat(4000);
        becomes(&["x", &wide, "y"], &["x", CUT]);
        // Nothing was cut off.
        stays(&["x", &"y".repeat(4000)]);
    }

    /// `cargo test --release -p procflow-probe --lib redact -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn what_it_costs() {
        let long = format!("-c{}", " print('x')".repeat(360));
        for line in [
            vec!["/usr/sbin/nginx", "-g", "daemon off;"],
            vec!["curl", "-s", "-H", "Authorization: Bearer abc", "https://example.org/a?b=c"],
            vec!["java", "-Dspring.datasource.password=x", "-Xmx4g", "-jar", "/opt/app/app.jar"],
            vec!["python3", &long],
            vec!["python3", &long, "https://x"],
        ] {
            let (redaction, line) = (Redaction::default(), words(&line));
            redaction.apply(line.clone());
            let begun = std::time::Instant::now();
            for _ in 0..1000 {
                std::hint::black_box(redaction.apply(line.clone()));
            }
            let bytes: usize = line.iter().map(String::len).sum();
            println!("{bytes} bytes: {:?}", begun.elapsed() / 1000);
        }
    }
}
