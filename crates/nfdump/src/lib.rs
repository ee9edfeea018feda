//! nfdump's nfcapd flow files.
#![forbid(unsafe_code)]

mod block;
mod compress;
mod error;
mod extension;
mod file;
mod flow;
mod map;
mod name;
mod reader;
mod record;

pub use compress::Compression;
pub use error::{Error, ErrorKind};
pub use file::{Header, Layout};
pub use flow::Flow;
pub use name::UserName;
pub use reader::{Block, Reader, Record};
pub use record::RecordType;
