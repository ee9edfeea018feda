//! See the table in `procflow_fuzz`.
#![no_main]

use procflow_core::dissect::ApplicationProtocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| procflow_fuzz::stream(ApplicationProtocol::HTTP, bytes));
