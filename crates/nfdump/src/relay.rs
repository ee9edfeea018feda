//! A relay hands finished blocks to a writer that works on a thread of its own: what compresses and
//! writes the last blocks does not keep the next ones from being read and decided.

use std::io::{self, Seek, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::{
    block::BlockHeader,
    error::{Error, ErrorKind},
    writer::Writer,
};

/// So many blocks may wait for the writer.
const AHEAD: usize = 2;

/// Where the blocks of a file go.
pub(crate) trait Sink {
    /// A data block of `plain` records, to be compressed. The buffer is left empty.
    fn block(&mut self, block_type: u16, records: u32, plain: &mut Vec<u8>) -> Result<(), Error>;

    /// A data block as it is on disk.
    fn copy(&mut self, header: BlockHeader, disk: &[u8]) -> Result<(), Error>;
}

impl<W: Write + Seek> Sink for Writer<W> {
    fn block(&mut self, block_type: u16, records: u32, plain: &mut Vec<u8>) -> Result<(), Error> {
        self.compressed(block_type, records, plain)?;
        plain.clear();
        Ok(())
    }

    fn copy(&mut self, header: BlockHeader, disk: &[u8]) -> Result<(), Error> {
        self.as_it_is(header, disk)
    }
}

/// The sender's end.
pub(crate) struct Relay {
    jobs: SyncSender<Job>,
    /// Buffers that were written out.
    spare: Receiver<Vec<u8>>,
}

enum Job {
    Plain { block_type: u16, records: u32, bytes: Vec<u8> },
    Disk { header: BlockHeader, bytes: Vec<u8> },
}

impl Relay {
    fn send(&self, job: Job) -> Result<(), Error> {
        // What became of the writer is told when it is joined.
        let gone = |_| Error::at(0, ErrorKind::Write(io::ErrorKind::BrokenPipe.into()));
        self.jobs.send(job).map_err(gone)
    }

    fn buffer(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_default()
    }
}

impl Sink for Relay {
    fn block(&mut self, block_type: u16, records: u32, plain: &mut Vec<u8>) -> Result<(), Error> {
        let bytes = std::mem::replace(plain, self.buffer());
        self.send(Job::Plain { block_type, records, bytes })
    }

    fn copy(&mut self, header: BlockHeader, disk: &[u8]) -> Result<(), Error> {
        let mut bytes = self.buffer();
        bytes.extend_from_slice(disk);
        self.send(Job::Disk { header, bytes })
    }
}

/// Does some work that fills a relay, and gives it back, while the writer writes what comes of it; gives
/// the writer back.
///
/// # Errors
/// The writer's, or else the work's.
pub(crate) fn relay<W: Write + Seek + Send, T>(
    writer: Writer<W>,
    work: impl FnOnce(Relay) -> Result<(T, Relay), Error>,
) -> Result<(T, Writer<W>), Error> {
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel(AHEAD);
        let (written, spare) = channel();
        let writing = scope.spawn(move || write(writer, &queue, &written));
        // The writer ends when nothing more can come.
        let result = work(Relay { jobs, spare }).map(|(value, relay)| {
            drop(relay);
            value
        });
        let writer = writing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok((result?, writer))
    })
}

fn write<W: Write + Seek>(
    mut writer: Writer<W>,
    queue: &Receiver<Job>,
    written: &Sender<Vec<u8>>,
) -> Result<Writer<W>, Error> {
    for job in queue {
        let mut bytes = match job {
            Job::Plain { block_type, records, bytes } => {
                writer.compressed(block_type, records, &bytes)?;
                bytes
            }
            Job::Disk { header, bytes } => {
                writer.as_it_is(header, &bytes)?;
                bytes
            }
        };
        bytes.clear();
        let _ = written.send(bytes); // nobody needs it any more
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, SeekFrom};

    use crate::rewrite_many;

    /// Takes so many bytes.
    struct Full(usize);

    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() > self.0 {
                return Err(std::io::Error::other("full"));
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl std::io::Seek for Full {
        fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn a_writer_that_fails_ends_the_work_and_says_why() {
        // A thousand blocks, of which the tenth finds no room; each holds one record of no interest.
        let mut file = b"\x0c\xa5\x02\x00".to_vec();
        file.resize(36, 0);
        file[16] = 3; // LZ4: four literals, and no more
        file.extend(1000_u32.to_le_bytes());
        for _ in 0..1000 {
            file.extend([1, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 0x40, 99, 0, 4, 0]);
        }
        let mut read = 0;
        let counted = Counted { inner: &file[..], read: &mut read };
        let error = rewrite_many(counted, Full(40 + 9 * 17), |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert!(read < 40 + 30 * 17, "{read} bytes were read");
        let summary = rewrite_many(&file[..], Full(1 << 20), |_, _| ()).unwrap();
        assert_eq!((summary.blocks_written, summary.records), (1000, 1000));
    }

    struct Counted<'a> {
        inner: &'a [u8],
        read: &'a mut usize,
    }

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.inner.read(buffer)?;
            *self.read += read;
            Ok(read)
        }
    }
}
