//! `updater IP PORT TIME` writes the process into the flows of nfdump directories.
//!
//! A program is a page: arguments, run, exit code.

mod annotate;
mod archive;
mod args;
mod decide;
mod failure;
mod feed;
mod ledger;
mod name;
mod report;
mod rights;
mod rotations;
mod run;
mod summary;
mod trust;
mod unfinished;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(args::Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("updater: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
