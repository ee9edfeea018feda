//! The meters that the extractor is compared with, and a plain loop in C over the same file. What is not
//! installed is left out, loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Trouble;

/// A program that makes flows of a capture.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    /// Whether one run is enough: it takes long.
    pub(crate) once: bool,
    /// How many times as fast we want to be, if we do.
    pub(crate) bar: Option<f64>,
    /// Whether it says what flows speak.
    pub(crate) dissects: bool,
}

/// All that are here.
pub(crate) fn all(place: &Path, capture: &Path) -> Result<Vec<Peer>, Trouble> {
    let mut peers = Vec::new();
    let mut add = |name: &'static str, command: Option<Command>, once, bar| match command {
        Some(mut command) => {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let dissects = name.contains("applications");
            peers.push(Peer { name, command, once, bar, dissects });
        }
        None => println!("SKIPPED: {name} is not here"),
    };
    add("softflowd (counters only)", softflowd(capture), false, Some(1.0));
    add("nfpcapd (counters only)", nfpcapd(place, capture)?, false, None);
    add("NFStream (statistics)", nfstream(capture, 0), true, Some(25.0));
    add("NFStream (applications)", nfstream(capture, 20), true, None);
    add("ndpiReader (applications)", ndpi_reader(capture), false, None);
    add("a plain loop in C", plain_loop(place, capture)?, false, None);
    Ok(peers)
}

fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|directory| directory.join(name).is_file())
}

/// Its records go to a port at which nobody listens.
fn softflowd(capture: &Path) -> Option<Command> {
    let mut command = Command::new("softflowd");
    command.args(["-d", "-n", "127.0.0.1:9", "-r"]).arg(capture);
    installed("softflowd").then_some(command)
}

fn nfpcapd(place: &Path, capture: &Path) -> Result<Option<Command>, Trouble> {
    let flows = place.join("nfpcapd");
    fs::create_dir_all(&flows)?;
    let mut command = Command::new("nfpcapd");
    command.arg("-r").arg(capture).arg("-l").arg(flows);
    Ok(installed("nfpcapd").then_some(command))
}

/// NFStream from PyPI, in an environment of its own that stays in `target`.
fn nfstream(capture: &Path, dissections: u32) -> Option<Command> {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nfstream");
    let python = environment.join("bin/python");
    if !python.is_file() {
        println!("installing NFStream from PyPI into {}", environment.display());
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status();
        let pip = ["-m", "pip", "install", "--quiet", "nfstream"];
        let ready = made.is_ok_and(|made| made.success())
            && Command::new(&python).args(pip).status().is_ok_and(|status| status.success());
        if !ready {
            let _ = fs::remove_dir_all(&environment);
            return None;
        }
    }
    let script = "import sys\nfrom nfstream import NFStreamer\n\
        flows = NFStreamer(source=sys.argv[1], statistical_analysis=True, n_dissections=int(sys.argv[2]), n_meters=1)\n\
        print(sum(flow.bidirectional_packets for flow in flows))";
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(capture).arg(dissections.to_string());
    Some(command)
}

/// nDPI's own program, which prints sums.
fn ndpi_reader(capture: &Path) -> Option<Command> {
    let mut command = Command::new("ndpiReader");
    command.args(["-q", "-i"]).arg(capture);
    installed("ndpiReader").then_some(command)
}

/// `loop.c`, compiled here: the bound.
fn plain_loop(place: &Path, capture: &Path) -> Result<Option<Command>, Trouble> {
    let Some(compiler) =
        ["cc", "gcc", "clang", "clang-14"].into_iter().find(|name| installed(name))
    else {
        return Ok(None);
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meters/loop.c");
    let program = place.join("loop");
    let mut compile = Command::new(compiler);
    compile.args(["-O3", "-march=native", "-o"]).arg(&program).arg(source).arg("-lm");
    if !compile.status()?.success() {
        return Err("loop.c does not compile".into());
    }
    let mut command = Command::new(program);
    command.arg(capture);
    Ok(Some(command))
}
