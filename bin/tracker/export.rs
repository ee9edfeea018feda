//! `tracker export`: a stretch of the history as a file (docs/history-file.md).

use procflow_store::{ExportHeader, Reader, write_export};

use crate::args::ExportArgs;
use crate::database::database;
use crate::failure::Failure;
use crate::moment;

/// Writes one file.
pub(crate) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let reader = Reader::open(&database(args.state.as_deref())?)?;
    let created = moment::now();
    let (since, until) = (args.since.resolve(created), args.until.resolve(created));
    if since > until {
        return Err(Failure::Backwards);
    }
    let Some(last) = reader.incarnations()?.pop() else { return Err(Failure::Empty) };
    let (host, host_name) = (last.incarnation.host, last.host_name);
    let header = ExportHeader { host, host_name, created, since, until };
    let exported = write_export(&reader, &args.file, &header)?;
    println!(
        "{}: {} events of {} starts of the tracker, {} bytes",
        args.file.display(),
        exported.events,
        exported.incarnations,
        exported.bytes
    );
    Ok(())
}
