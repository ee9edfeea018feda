//! Compression is what a block's payload went through on its way to disk, by one method per file.
//!
//! A payload has no length prefix and no container of its own: LZO and LZ4 are raw blocks, BZ2
//! and ZSTD one stream each. How much comes out is known only by doing it, so it comes out into
//! a buffer of the most a block may be, and never grows past it.

use std::{fmt, io::Read};

use crate::{block::MOST, error::ErrorKind, lzo::Lzo};

/// The method of a file, from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Payloads are the records themselves.
    None,
    /// LZO1X.
    Lzo,
    /// bzip2.
    Bz2,
    /// A raw LZ4 block.
    Lz4,
    /// A zstd frame: layout 2 since nfdump 1.7.3. Earlier 1.7 show such a file as empty.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no compression",
            Self::Lzo => "LZO",
            Self::Bz2 => "BZ2",
            Self::Lz4 => "LZ4",
            Self::Zstd => "ZSTD",
        })
    }
}

/// Undoes a file's compression into one buffer, kept from block to block.
pub(crate) struct Decompressor {
    compression: Compression,
    /// [`MOST`] bytes once anything was decompressed: no length in the file is believed.
    plain: Vec<u8>,
    length: usize,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, plain: Vec::new(), length: 0, zstd: None }
    }

    /// Decompresses `payload`; [`plain`](Self::plain) then has what came out.
    pub(crate) fn decompress(&mut self, payload: &[u8]) -> Result<(), ErrorKind> {
        self.length = 0;
        if self.compression == Compression::None {
            return Ok(());
        }
        if self.plain.is_empty() {
            // Zero pages of the system's, not touched until something is decompressed into them.
            self.plain = vec![0; MOST];
        }
        self.length = self
            .fill(payload)
            .map_err(|reason| ErrorKind::Decompress { compression: self.compression, reason })?;
        Ok(())
    }

    /// The records in `payload`, decompressed last: itself when the file is not compressed.
    pub(crate) fn plain<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        if self.compression == Compression::None { payload } else { &self.plain[..self.length] }
    }

    fn fill(&mut self, payload: &[u8]) -> Result<usize, String> {
        let plain = &mut self.plain[..];
        match self.compression {
            Compression::None => Ok(0),
            Compression::Lzo => {
                lzokay::decompress::decompress(payload, plain).map_err(|error| error.to_string())
            }
            Compression::Bz2 => {
                let mut decoder = bzip2::read::BzDecoder::new(payload);
                let mut length = 0;
                loop {
                    let into = &mut plain[length..];
                    let more = if into.is_empty() {
                        if decoder.read(&mut [0]).map_err(|error| error.to_string())? > 0 {
                            return Err("it holds more".to_owned());
                        }
                        0
                    } else {
                        decoder.read(into).map_err(|error| error.to_string())?
                    };
                    if more == 0 {
                        return Ok(length);
                    }
                    length += more;
                }
            }
            Compression::Lz4 => {
                lz4_flex::block::decompress_into(payload, plain).map_err(|error| error.to_string())
            }
            Compression::Zstd => {
                let decompressor = match &mut self.zstd {
                    Some(decompressor) => decompressor,
                    none => none.insert(
                        zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?,
                    ),
                };
                decompressor.decompress_to_buffer(payload, plain).map_err(|error| error.to_string())
            }
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decompressor({})", self.compression)
    }
}

/// Compresses payloads with a file's method, keeping tables and buffer from block to block.
pub(crate) struct Compressor {
    compression: Compression,
    disk: Vec<u8>,
    lzo: Option<Lzo>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, disk: Vec::new(), lzo: None, zstd: None }
    }

    /// `plain` as it goes to disk: itself when the file is not compressed.
    pub(crate) fn compress<'a>(&'a mut self, plain: &'a [u8]) -> Result<&'a [u8], ErrorKind> {
        if self.compression == Compression::None {
            return Ok(plain);
        }
        let length = self
            .fill(plain)
            .map_err(|reason| ErrorKind::Compress { compression: self.compression, reason })?;
        Ok(&self.disk[..length])
    }

    fn fill(&mut self, plain: &[u8]) -> Result<usize, String> {
        let disk = &mut self.disk;
        let grow = |disk: &mut Vec<u8>, worst: usize| {
            if disk.len() < worst {
                disk.resize(worst, 0);
            }
        };
        match self.compression {
            Compression::None => Ok(0),
            Compression::Lzo => {
                self.lzo.get_or_insert_with(Lzo::new).compress(plain, disk);
                Ok(disk.len())
            }
            Compression::Bz2 => {
                disk.clear();
                // Level 9, as nfdump's own writer.
                let mut encoder = bzip2::read::BzEncoder::new(plain, bzip2::Compression::best());
                encoder.read_to_end(disk).map_err(|error| error.to_string())
            }
            Compression::Lz4 => {
                grow(disk, lz4_flex::block::get_maximum_output_size(plain.len()));
                lz4_flex::block::compress_into(plain, disk).map_err(|error| error.to_string())
            }
            Compression::Zstd => {
                grow(disk, zstd::zstd_safe::compress_bound(plain.len()));
                let compressor = match &mut self.zstd {
                    Some(compressor) => compressor,
                    // Level 3, as nfdump's own writer.
                    none => none
                        .insert(zstd::bulk::Compressor::new(3).map_err(|error| error.to_string())?),
                };
                compressor
                    .compress_to_buffer(plain, &mut disk[..])
                    .map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Decompressor {
        fn records<'a>(&'a mut self, payload: &'a [u8]) -> Result<&'a [u8], ErrorKind> {
            self.decompress(payload)?;
            Ok(self.plain(payload))
        }
    }

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Lzo,
        Compression::Bz2,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn what_is_compressed_comes_back() {
        for compression in ALL {
            let mut compressor = Compressor::new(compression);
            let mut decompressor = Decompressor::new(compression);
            // Twice with different lengths: the second must not see the first one's table or bytes.
            for length in [MOST / 4, 333] {
                let plain: Vec<u8> = (0..length).map(|at| (at / 7 * 31 % 251) as u8).collect();
                let disk = compressor.compress(&plain).unwrap();
                if compression != Compression::None {
                    assert!(disk.len() < plain.len(), "{compression}");
                }
                assert!(decompressor.records(disk).unwrap() == plain, "{compression}");
            }
        }
    }

    #[test]
    fn a_literal_of_each_method_decompresses() {
        let plain = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        // LZ4: one literal, a match of 26 at distance 1, five closing literals.
        let lz4 = b"\x1fa\x01\x00\x07\x50aaaaa";
        assert_eq!(Decompressor::new(Compression::Lz4).records(lz4).unwrap(), plain);
        // LZO1X: 17 + 32 - 17 literals announced by the first byte, then the end marker.
        let mut lzo = vec![17 + 32];
        lzo.extend_from_slice(plain);
        lzo.extend_from_slice(&[0x11, 0, 0]);
        assert_eq!(Decompressor::new(Compression::Lzo).records(&lzo).unwrap(), plain);
        // ZSTD: magic, single segment of 32 bytes, one last run-length block of 32.
        let zstd = b"\x28\xb5\x2f\xfd\x20\x20\x03\x01\x00a";
        assert_eq!(Decompressor::new(Compression::Zstd).records(zstd).unwrap(), plain);
    }

    #[test]
    fn more_than_5_mib_is_refused_by_every_method() {
        let bomb = vec![0; MOST + 1];
        for compression in ALL.into_iter().skip(1) {
            let mut compressor = Compressor::new(compression);
            let disk = compressor.compress(&bomb).unwrap();
            let error = Decompressor::new(compression).records(disk).unwrap_err();
            assert!(matches!(error, ErrorKind::Decompress { .. }), "{compression}: {error}");
            let mut compressor = Compressor::new(compression);
            let disk = compressor.compress(&bomb[1..]).unwrap();
            assert_eq!(Decompressor::new(compression).records(disk).unwrap().len(), MOST);
        }
    }

    #[test]
    fn noise_is_refused_or_bounded() {
        let mut noise = 0x2545_f491_4f6c_dd1d_u64;
        for compression in ALL.into_iter().skip(1) {
            let mut decompressor = Decompressor::new(compression);
            for length in 0..400 {
                let payload: Vec<u8> = (0..length)
                    .map(|_| {
                        noise ^= noise << 13;
                        noise ^= noise >> 7;
                        noise ^= noise << 17;
                        noise as u8
                    })
                    .collect();
                if let Ok(plain) = decompressor.records(&payload) {
                    assert!(plain.len() <= MOST);
                }
            }
        }
    }
}
