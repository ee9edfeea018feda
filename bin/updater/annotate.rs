//! Annotating one file: read it, write it anew beside it with the names, and put the new one in
//! its place - or leave everything as it was.
//!
//! How the new file takes that place is told in `unfinished.rs`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use procflow_nfdump::{Flow, Reader, Summary, UserName, rewrite_many};

use crate::archive::Found;
use crate::rights::Rights;
use crate::stamp::Stamp;
use crate::unfinished::{Original, Traded, Unfinished, open_directory, open_file};

/// A file could not be annotated. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnotateError {
    #[error("{}: {what}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    /// The file itself is at fault; says at which offset.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: procflow_nfdump::Error },
    #[error("{} is still being written; it will be final when nfcapd has renamed it", .0.display())]
    StillWritten(PathBuf),
    #[error("{} changed while it was annotated; left as it is", .0.display())]
    Changed(PathBuf),
    #[error("{} is locked by another process, likely an updater; left to it", .0.display())]
    Locked(PathBuf),
    #[error("{} would be written over itself; choose another --output", .0.display())]
    OntoItself(PathBuf),
    #[error("{} exists and was not written by an update; --force replaces it", .0.display())]
    Exists(PathBuf),
    #[error("stopped while annotating {}; it is as it was", .0.display())]
    Stopped(PathBuf),
}

/// Where annotated files go instead of into the original's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    pub(crate) path: &'a Path,
    /// Whether a file that is there already is our own.
    pub(crate) may_replace: bool,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotated {
    pub(crate) summary: Summary,
    /// As it is now.
    pub(crate) stamp: Stamp,
    /// Whether there is a new file.
    pub(crate) replaced: bool,
}

/// Annotates a file, in place or into `output`; there are as many threads as `deciders`.
///
/// In place, a file in which nothing would change is left alone. `stop` ends the work before the
/// next block.
pub(crate) fn annotate<F>(
    found: &Found,
    output: Option<Output<'_>>,
    stop: &AtomicBool,
    deciders: &mut [F],
) -> Result<Annotated, AnnotateError>
where
    F: FnMut(&[Flow<'_>], &mut [UserName]) + Send,
{
    let path = found.path();
    let io = |what| {
        let path = path.clone();
        move |source| AnnotateError::Io { path, what, source }
    };
    if found.name.as_encoded_bytes().starts_with(b"nfcapd.current") {
        return Err(AnnotateError::StillWritten(path));
    }
    let source_directory = found.open_directory().map_err(io("cannot open directory"))?;
    let in_place = output.is_none();
    let _rights = match in_place {
        true => Some(Rights::of_owner(&source_directory, &found.name).map_err(io("cannot open"))?),
        false => None,
    };
    let opened = open_file(&source_directory, &found.name).map_err(io("cannot open"))?;
    let original = Original::take(opened, in_place).map_err(io("cannot look at"))?;
    let Some(original) = original else { return Err(AnnotateError::Locked(path)) };
    let before = original.file.metadata().map_err(io("cannot look at"))?;
    if Stamp::of(&before) != found.stamp {
        return Err(AnnotateError::Changed(path));
    }
    let target_directory = match output {
        None => source_directory.try_clone().map_err(io("cannot open directory"))?,
        Some(output) => {
            let target = found.target(Some(output.path));
            let made = std::fs::create_dir_all(&target).and_then(|()| open_directory(&target));
            let what = "cannot open directory";
            let directory =
                made.map_err(|source| AnnotateError::Io { path: target, what, source })?;
            if same_directory(&directory, &source_directory).map_err(io("cannot look at"))? {
                return Err(AnnotateError::OntoItself(path));
            }
            directory
        }
    };

    let failed = |source: procflow_nfdump::Error| {
        let path = path.clone();
        if stop.load(Ordering::Relaxed) {
            AnnotateError::Stopped(path)
        } else if original.is_as_it_was(&source_directory, &found.name).is_ok_and(|same| !same) {
            // What is wrong with it may be that it was half appended to.
            AnnotateError::Changed(path)
        } else {
            AnnotateError::File { path, source }
        }
    };
    let mut input = Stoppable { file: &original.file, stop };
    if Reader::new(&mut input).map_err(failed)?.header().in_progress() {
        return Err(AnnotateError::StillWritten(path));
    }
    (&original.file).rewind().map_err(io("cannot read"))?;

    // Nothing is written before something changes, and nothing at all where nothing does.
    let create = |same: u64| -> io::Result<Unfinished> {
        let unfinished = Unfinished::create(&target_directory)?;
        copy_start(&original.file, &unfinished.file, same)?;
        Ok(unfinished)
    };
    let mut begun = None;
    let begin = |same: u64| match begun.insert(create(same)) {
        Ok(unfinished) => unfinished.file.try_clone(),
        // It is told below.
        Err(error) => Err(error.kind().into()),
    };
    let rewritten = rewrite_many(input, begin, deciders);
    let begun = begun.transpose().map_err(io("cannot write beside"))?;
    let (summary, _) = rewritten.map_err(failed)?;
    if stop.load(Ordering::Relaxed) {
        return Err(AnnotateError::Stopped(path));
    }
    let unfinished = match (begun, &output) {
        (Some(unfinished), _) => unfinished,
        (None, None) => return Ok(Annotated { summary, stamp: found.stamp, replaced: false }),
        (None, Some(_)) => create(before.len()).map_err(io("cannot write beside"))?,
    };
    unfinished.dress_as(&before).map_err(io("cannot give owner, mode and times of"))?;
    unfinished.file.sync_all().map_err(io("cannot write beside"))?;
    let stamp = unfinished.file.metadata().map_err(io("cannot look at"))?;
    // nfcapd may have appended meanwhile (it was restarted within the slot), or nfexpire may have
    // deleted the file: then it is not ours to replace.
    let Some(output) = output else {
        return match unfinished.replace(&found.name, &original).map_err(io("cannot replace"))? {
            Traded::Replaced => Ok(Annotated { summary, stamp: Stamp::of(&stamp), replaced: true }),
            Traded::Changed => Err(AnnotateError::Changed(path)),
        };
    };
    if !original.is_as_it_was(&source_directory, &found.name).map_err(io("cannot look at"))? {
        return Err(AnnotateError::Changed(path));
    }
    match unfinished.finish(&found.name, output.may_replace) {
        Err(error) if !output.may_replace && error.kind() == io::ErrorKind::AlreadyExists => {
            let directory = found.target(Some(output.path));
            return Err(AnnotateError::Exists(directory.join(&found.name)));
        }
        finished => finished.map_err(io("cannot replace"))?,
    }
    Ok(Annotated { summary, stamp: Stamp::of(&stamp), replaced: true })
}

/// Copies so many first bytes of a file, wherever it is being read.
fn copy_start(from: &File, mut to: &File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let wanted = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        let read = from.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

/// Reads a file until told to stop.
struct Stoppable<'a> {
    file: &'a File,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let mut file = self.file;
        file.read(buffer)
    }
}

fn same_directory(a: &OwnedFd, b: &OwnedFd) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let [a, b] = [a, b].map(|fd| File::from(fd.try_clone()?).metadata());
    let (a, b) = (a?, b?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}
