//! See the table in `procflow_fuzz`.
#![no_main]

use procflow_nfdump::Compression;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| procflow_fuzz::payload(Compression::Lz4, bytes));
