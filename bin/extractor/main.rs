//! `extractor FILE...` makes bidirectional flows with statistical features of packets; `extractor
//! columns` says what they are.
//!
//! A program is a page: arguments, run, exit code.

mod args;
mod columns;
mod failure;
mod output;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser;

use args::Command;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let done = match &args.command {
        Some(Command::Columns(columns)) => columns::print(columns),
        None => run::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("extractor: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
