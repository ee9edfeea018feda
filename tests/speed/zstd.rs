//! ZSTD, which nfdump 1.7.1 does not read: files of it, and what the library alone takes for their bytes.

use std::fs;
use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};

use crate::measure::{Taken, Trouble, seconds};

/// The level of nfdump's own writer.
const LEVEL: i32 = 3;
const FILE_HEADER: usize = 40;
const BLOCK_HEADER: usize = 12;
/// More than any block takes.
const MOST: usize = 5 << 20;

/// The payloads of a file's blocks, the appendix among them.
fn payloads(file: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    let mut rest = &file[FILE_HEADER..];
    while let Some((header, after)) = rest.split_first_chunk::<BLOCK_HEADER>() {
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (payload, next) = after.split_at(size);
        payloads.push(payload);
        rest = next;
    }
    payloads
}

/// Writes a plain file anew, compressed.
pub(crate) fn compress(plain: &Path, to: &Path) -> Result<(), Trouble> {
    let file = fs::read(plain)?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut written = file[..FILE_HEADER].to_vec();
    let (mut at, mut appendix) = (FILE_HEADER, 0);
    for payload in payloads(&file) {
        appendix = written.len() as u64;
        let compressed = compressor.compress(payload)?;
        let mut header = file[at..at + BLOCK_HEADER].to_vec();
        header[4..8].copy_from_slice(&u32::try_from(compressed.len())?.to_le_bytes());
        written.extend(header);
        written.extend(compressed);
        at += BLOCK_HEADER + payload.len();
    }
    written[16] = 4;
    written[24..32].copy_from_slice(&appendix.to_le_bytes());
    fs::write(to, written)?;
    Ok(())
}

/// What the library takes to decompress one file's blocks and to compress those of another.
pub(crate) fn alone(read: &Path, written: &Path) -> Result<Taken, Trouble> {
    let (read, written) = (fs::read(read)?, fs::read(written)?);
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let (mut plain, mut disk) = (vec![0; MOST], vec![0; 2 * MOST]);
    let mut taken = 0.0;
    for payload in payloads(&read) {
        let began = on_processor()?;
        decompressor.decompress_to_buffer(payload, &mut plain)?;
        taken += on_processor()? - began;
    }
    for payload in payloads(&written) {
        let length = decompressor.decompress_to_buffer(payload, &mut plain)?;
        let began = on_processor()?;
        compressor.compress_to_buffer(&plain[..length], &mut disk)?;
        taken += on_processor()? - began;
    }
    Ok(Taken { processor: taken, wall: taken, ..Taken::default() })
}

/// What this thread took so far, in seconds.
fn on_processor() -> Result<f64, Trouble> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}
