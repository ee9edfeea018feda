//! `extractor FILE...|INTERFACE...` makes bidirectional flows with statistical features of packets;
//! `extractor columns` says what they are, `extractor interfaces` where packets can be taken from;
//! `extractor sessions` tells what happens in TCP connections, `extractor packets` what is in packets,
//! `extractor serve` what a connection of this host looks like, to its services.
//!
//! A program is a page: arguments, run, exit code.

mod args;
mod batch;
mod columns;
mod failure;
mod following;
mod host;
mod interfaces;
mod packets;
mod performance;
mod processes;
mod progress;
mod report;
mod run;
mod serve;
mod sessions;
mod source;
mod stop;

use std::process::ExitCode;

use clap::Parser;

use args::Command;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let done = match &args.command {
        Some(Command::Columns(columns)) => columns::print(columns),
        Some(Command::Interfaces(interfaces)) => interfaces::list(interfaces),
        Some(Command::Sessions(args)) => sessions::run(args),
        Some(Command::Packets(packets)) => packets::print(packets),
        Some(Command::Serve(args)) => serve::serve(args),
        None => match &args.batch {
            Some(directory) => batch::run(&args, directory),
            None => run::run(&args),
        },
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("extractor: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
