//! `updater IP PORT TIME` writes the process into the flows of nfdump directories; `updater show` and
//! `updater salvage` look into their files.
//!
//! A program is a page: arguments, run, exit code.

mod annotate;
mod archive;
mod args;
mod captures;
mod decide;
mod failure;
mod harmless;
mod ledger;
mod report;
mod rights;
mod rotations;
mod run;
mod salvage;
mod show;
mod stamp;
mod summary;
mod unfinished;

use std::process::ExitCode;

use args::Command;
use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = match &args.command {
        None => run::run(args),
        Some(Command::Show(args)) => show::show(args),
        Some(Command::Salvage(args)) => salvage::salvage(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("updater: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
