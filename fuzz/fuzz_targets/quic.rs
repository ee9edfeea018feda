//! See the table in `procflow_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| procflow_fuzz::quic(bytes));
