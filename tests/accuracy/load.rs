//! The load generators (`load/*.c`): built with the C compiler that is there, started, waited for.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Trouble;

/// The built program.
pub struct Load {
    program: PathBuf,
}

/// What a generator reached.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub conversations: u32,
    pub seconds: f64,
}

impl Pace {
    pub fn per_second(self) -> f64 {
        f64::from(self.conversations) / self.seconds
    }
}

impl Load {
    /// Builds it. Static where that works: a small process forks faster.
    pub fn build(place: &Path) -> Result<Self, Trouble> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/load");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&sources)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, Trouble>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
        files.sort();
        let program = place.join("load");
        let mut said = String::new();
        for compiler in ["cc", "clang", "clang-14"] {
            for linked in [&["-static"][..], &[]] {
                let mut command = Command::new(compiler);
                command.args(["-std=gnu11", "-O2", "-Wall", "-Wextra"]).args(linked);
                command.arg("-o").arg(&program).args(&files);
                match command.output() {
                    Ok(output) if output.status.success() => return Ok(Self { program }),
                    Ok(output) => said = String::from_utf8_lossy(&output.stderr).into_owned(),
                    Err(error) if said.is_empty() => said = format!("{compiler}: {error}"),
                    Err(_) => {}
                }
            }
        }
        Err(format!("the load generators cannot be built: {said}").into())
    }

    fn command(&self, netns: Option<&str>, truth: &Path, words: &str) -> Command {
        let mut words = words.split_whitespace();
        let mut command = Command::new(&self.program);
        command.args(words.next());
        command.arg(format!("truth={}", truth.display()));
        command.args(netns.map(|name| format!("netns={name}")));
        command.args(words);
        command
    }

    /// Starts one that runs until it is dropped, and waits until its sockets are there.
    pub fn start(&self, netns: Option<&str>, truth: &Path, words: &str) -> Result<Server, Trouble> {
        let mut command = self.command(netns, truth, words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a generator without pipes".into());
        };
        let mut server = Server { child, input, output: BufReader::new(output) };
        if server.line()? == "ready" {
            Ok(server)
        } else {
            Err(format!("no `load {words}` came up").into())
        }
    }

    /// Starts one that ends by itself.
    pub fn begin(
        &self,
        netns: Option<&str>,
        truth: &Path,
        words: &str,
    ) -> Result<Running, Trouble> {
        let mut command = self.command(netns, truth, words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Ok(Running { child, words: words.to_owned() })
    }
}

/// A generator that runs until it is dropped.
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// The next line that it says.
    pub fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Says a line to it.
    pub fn ask(&mut self) -> Result<(), Trouble> {
        self.input.write_all(b"\n")?;
        Ok(self.input.flush()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // its children die with it
        let _ = self.child.wait();
    }
}

/// A generator that ends by itself.
pub struct Running {
    child: Child,
    words: String,
}

impl Running {
    /// Waits for its end; what it reached.
    pub fn finish(mut self) -> Result<Pace, Trouble> {
        let mut said = String::new();
        if let Some(output) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut BufReader::new(output), &mut said)?;
        }
        if !self.child.wait()?.success() {
            return Err(format!("`load {}` failed", self.words).into());
        }
        let paced = said.lines().find_map(|line| line.strip_prefix("paced "));
        let (count, nanoseconds) = paced.and_then(|p| p.split_once(' ')).unwrap_or(("0", "0"));
        Ok(Pace {
            conversations: count.parse()?,
            seconds: (nanoseconds.parse::<f64>()? / 1e9).max(1e-9),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // over already, unless something failed
        let _ = self.child.wait();
    }
}
