//! The world of a bar: network namespaces, wires, address translation, settings of the kernel - all of
//! it taken down again, whatever happens to the suite.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::Trouble;

/// Takes down what was built when the suite is gone, even if that was killed: a shell that reads
/// commands until nobody can write any more, and then runs them, the last first. Commands whose work
/// is done already fail in silence.
pub struct Undertaker {
    shell: Child,
    will: Mutex<Option<ChildStdin>>,
}

impl Undertaker {
    pub fn new() -> Result<Self, Trouble> {
        let mut shell = Command::new("sh")
            .args(["-c", "trap '' INT TERM HUP; tac | sh >/dev/null 2>&1"])
            .process_group(0) // an interrupt of the terminal is not for it
            .stdin(Stdio::piped())
            .spawn()?;
        let will = Mutex::new(shell.stdin.take());
        Ok(Self { shell, will })
    }

    /// Has a command run at the end.
    pub fn leave(&self, command: &str) -> Result<(), Trouble> {
        let mut will = self.will.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(will) = will.as_mut() else { return Err("the undertaker is gone".into()) };
        Ok(writeln!(will, "{command}")?)
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.will.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.shell.wait(); // what can be done is done
    }
}

/// Runs a program; what it said, if it failed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), Trouble> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {said}", arguments.join(" ")).into())
}

/// A network namespace with loopback up.
pub struct Netns {
    pub name: String,
}

impl Netns {
    pub fn new(undertaker: &Undertaker, word: &str) -> Result<Self, Trouble> {
        let name = format!("procflow-acc-{word}-{}", std::process::id());
        undertaker.leave(&format!("ip netns del {name}"))?;
        run("ip", &["netns", "add", &name])?;
        let netns = Self { name };
        run("ip", &["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Runs a program inside.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Trouble> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend(arguments);
        run("ip", &all)
    }

    /// An address of an interface, ready to be used.
    pub fn address(&self, address: &str, interface: &str) -> Result<(), Trouble> {
        let mut add = vec!["-n", &self.name, "address", "add", address, "dev", interface];
        if address.contains(':') {
            add.push("nodad"); // duplicate address detection takes seconds
        }
        run("ip", &add)
    }

    pub fn route(&self, via: &str) -> Result<(), Trouble> {
        run("ip", &["-n", &self.name, "route", "add", "default", "via", via])
    }

    /// Makes it forward packets, and translate their addresses by these nft rules.
    pub fn translate(&self, rules: &str) -> Result<(), Trouble> {
        self.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        if nft.wait()?.success() { Ok(()) } else { Err("nft took no rules".into()) }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.name]); // the undertaker tries again
    }
}

/// A wire between two namespaces, with an address at each end.
pub fn wire(one: (&Netns, &str, &str), other: (&Netns, &str, &str)) -> Result<(), Trouble> {
    let (near, interface, _) = one;
    let (far, peer, _) = other;
    let make = ["link", "add", interface, "netns", &near.name, "type", "veth", "peer", "name"];
    let mut make = make.to_vec();
    make.extend([peer, "netns", &far.name]);
    run("ip", &make)?;
    for (netns, interface, address) in [one, other] {
        netns.address(address, interface)?;
        run("ip", &["-n", &netns.name, "link", "set", interface, "up"])?;
    }
    Ok(())
}

const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// A small `pid_max`, so that pids come round again soon; the old one comes back in any case.
pub struct FewPids {
    before: String,
}

impl FewPids {
    pub fn new(undertaker: &Undertaker, most: u32) -> Result<Self, Trouble> {
        let before = std::fs::read_to_string(PID_MAX)?.trim().to_owned();
        undertaker.leave(&format!("echo {before} > {PID_MAX}"))?;
        std::fs::write(PID_MAX, most.to_string())?;
        Ok(Self { before })
    }
}

impl Drop for FewPids {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(PID_MAX, &self.before) {
            let _ = writeln!(io::stderr(), "accuracy: {PID_MAX} is not restored: {error}");
        }
    }
}
