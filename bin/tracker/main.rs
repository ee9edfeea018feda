//! `tracker PORT` follows which process holds which socket on this host, and serves it to updaters.
//!
//! A program is a page: arguments, run, exit code.

mod args;
mod failure;
mod run;
mod service;
mod trust;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tracker: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
