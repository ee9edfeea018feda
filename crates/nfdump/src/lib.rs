//! Reads nfdump's nfcapd flow files, and rewrites them with a user name in each flow.
//!
//! It reads and writes layout 1 (nfdump 1.6; plain, LZO, BZ2, LZ4) and layout 2 (nfdump 1.7; the
//! same and ZSTD). It takes any [`Read`](std::io::Read) and any
//! [`Write`](std::io::Write)` + `[`Seek`](std::io::Seek), from front to back, with one block in
//! memory at a time, whatever a file claims of itself.
//!
//! **It will not** open, name, replace or delete files; read **layout 3** (nfdump 1.8, beta),
//! **encrypted** files or files of **big-endian** machines, all of which it refuses by name;
//! decode more of a flow than says whose it is ([`Flow`]), or flow records of early nfdump 1.6
//! (**type 1**, carried through as they are); turn one layout or compression into another; repair a damaged file in its place ([`salvage`] writes what
//! is readable of it anew).
//!
//! # Reading
//!
//! A [`Reader`] gives [`Block`]s, which are iterators over [`Record`]s, some of which are flows:
//!
//! ```
//! use procflow_nfdump::{Reader, UserName, rewrite};
//! use std::io::Cursor;
//!
//! // Layout 2, not compressed, one block of one record, no appendix.
//! let mut file = b"\x0c\xa5\x02\x00".to_vec();
//! file.resize(36, 0);
//! file.extend([1, 0, 0, 0]);
//! file.extend([1, 0, 0, 0, 76, 0, 0, 0, 3, 0, 0, 0]);
//! // A flow with element 1 (times, counters, ports) and element 2 (IPv4 addresses).
//! file.extend([11, 0, 76, 0, 2, 0, 0, 0, 0, 0, 0, 10]);
//! file.extend([1, 0, 52, 0]);
//! file.extend([0; 40]);
//! file.extend([0, 123, 123, 0, 17, 0, 0, 0]);
//! file.extend([2, 0, 12, 0, 1, 0, 0, 10, 2, 0, 0, 10]);
//!
//! let mut flows = 0;
//! let mut reader = Reader::new(&file[..])?;
//! while let Some(block) = reader.next_block()? {
//!     for record in block {
//!         let Some(flow) = record?.flow else { continue };
//!         assert_eq!(flow.destination.to_string(), "10.0.0.2");
//!         assert_eq!((flow.destination_port, flow.user_name), (123, None));
//!         flows += 1;
//!     }
//! }
//! assert_eq!(flows, 1);
//!
//! // Rewriting: what is put into the name is written into the flow.
//! let mut output = Cursor::new(Vec::new());
//! let summary = rewrite(&file[..], &mut output, |flow, name: &mut UserName| {
//!     if flow.destination_port == 123 {
//!         name.set("ntpd");
//!     }
//! })?;
//! assert_eq!((summary.flows, summary.named), (1, 1));
//! assert!(output.into_inner().windows(6).any(|bytes| bytes == b"ntpd\0\0"));
//! # Ok::<(), procflow_nfdump::Error>(())
//! ```
//!
//! What the records of a file add up to - exporters, extensions, counters of both directions - a
//! [`Tally`] tells that is handed each of them. [`salvage`] writes what is readable of a damaged file
//! as a new one; it alone needs an input that can seek. A [`NewFile`] is made of flows that come from no
//! file.
//!
//! # Files that are not as they should be
//!
//! Whoever rewrites is about to replace a file by the result, so what cannot be carried through
//! faithfully is an error, and the original can stay. nfdump's answers are those of 1.7.1.
//!
//! | the file | nfdump | here |
//! |---|---|---|
//! | layout 3, big-endian, encrypted, not an nfcapd file | refuses | error |
//! | still in progress | no flows | error when rewriting; no blocks when reading, unless [asked for](Reader::unfinished) |
//! | truncated in a data block | refuses the file | error after the flows before it |
//! | truncated in the appendix | flows, then an error | the same |
//! | bytes after the last block | ignores them | error at the end: a file that a collector appends to can look like that |
//! | NumBlocks too low (layout 2) | flows missing, silently | error at the end of the blocks counted |
//! | NumBlocks too high | flows, then messages | error after the flows |
//! | offAppendix wrong | refuses the file if past its end | error after the flows |
//! | no appendix | reads it | reads and rewrites it |
//! | block's record count too high | flows, then an error | the same |
//! | block's record count too low | flows missing, silently | error after the block's flows |
//! | block, or what it decompresses to, over 5 MiB | gives up | error |
//! | block of another type (arrays, nfdump 1.5, 1.6's port statistics) | refuses or skips it | error |
//! | block marked as not compressed in a compressed file | loses it, silently | error |
//! | record or element runs over what holds it | gives up | error |
//! | elements do not add up to their record | gives up | error |
//! | extension map wrong, or missing | gives up | error |
//! | flow without element 1 or without addresses | prints zeros | carried through, not offered |
//! | name too short, too long, without NUL, or several | prints one | carried through; replaced by one when named |
//! | unknown element, record type | a message | carried through |
#![forbid(unsafe_code)]

mod block;
mod compress;
mod counters;
mod create;
mod error;
mod exporter;
mod extension;
mod file;
mod flow;
mod frequent;
mod lzo;
mod map;
mod name;
mod ordered;
mod packer;
mod reader;
mod record;
mod rewrite;
mod salvage;
mod stat;
mod tally;
mod vocabulary;
mod writer;

pub use compress::Compression;
pub use counters::Counters;
pub use create::{NewFile, NewFlow};
pub use error::{Error, ErrorKind};
pub use exporter::{Exporter, ExporterStat, Sampler};
pub use file::{Header, Layout};
pub use flow::Flow;
pub use name::UserName;
pub use reader::{Block, Reader, Record};
pub use record::RecordType;
pub use rewrite::{MOST_AT_ONCE, Summary, rewrite, rewrite_many};
pub use salvage::{Loss, Salvaged, salvage, salvage_with};
pub use stat::{Stat, Sum};
pub use tally::Tally;
pub use vocabulary::{creator_name, extension_name};
