//! `tracker PORT` follows which process holds which socket on this host, keeps it on disk, and serves
//! it to updaters; `tracker query` and `tracker export` ask what was kept.
//!
//! A program is a page: arguments, run, exit code.

mod archive;
mod args;
mod database;
mod doctor;
mod export;
mod failure;
mod flush;
mod moment;
mod query;
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
