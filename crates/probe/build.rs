//! Compiles the programs that run inside the kernel, with clang, when there is one.
//!
//! With clang: the object is in OUT_DIR and `cfg(have_bpf)` is set; programs that do not compile fail
//! the build. Without: a warning, and the tracker is built without its best source. `CLANG` names
//! another compiler; an empty one means none.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: &str = "src/ebpf/programs";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_bpf)");
    println!("cargo::rerun-if-changed={PROGRAMS}");
    println!("cargo::rerun-if-env-changed=CLANG");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let Some(clang) = clang() else {
        println!(
            "cargo::warning=clang is not installed: the tracker is built without its eBPF source and \
             will miss short-lived connections (Debian: apt install clang)"
        );
        return;
    };
    let out: PathBuf = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into();
    compile(&clang, &out.join("programs.bpf.o"));
    println!("cargo::rustc-cfg=have_bpf");
}

/// The first compiler that runs and can make BPF objects.
fn clang() -> Option<String> {
    let names = match env::var("CLANG") {
        Ok(name) => vec![name],
        Err(_) => std::iter::once("clang".to_owned())
            .chain((14..=22).rev().map(|version| format!("clang-{version}")))
            .collect(),
    };
    names.into_iter().find(|name| {
        let targets = Command::new(name).arg("--print-targets").output();
        targets.is_ok_and(|targets| String::from_utf8_lossy(&targets.stdout).contains("bpfel"))
    })
}

fn compile(clang: &str, object: &Path) {
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN").expect("cargo sets the target's byte order");
    let target = if endian == "big" { "bpfeb" } else { "bpfel" };
    let status = Command::new(clang)
        .args(["-g", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"])
        .args(["-target", target, "-mcpu=v3", "-c"])
        .arg(Path::new(PROGRAMS).join("programs.bpf.c"))
        .arg("-o")
        .arg(object)
        .status()
        .unwrap_or_else(|error| panic!("cannot run {clang}: {error}"));
    assert!(status.success(), "{clang} does not compile {PROGRAMS}");
}
