//! Octets of TLS and DNS that wait for those behind them: a message is read once it is whole, wherever it was cut.

/// What came and is not read yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(Vec<u8>);

impl Pending {
    /// So many octets wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Shows what waits with what follows it; whoever reads it tells how many octets are done with. What is read
    /// at once, as most is, is not copied.
    pub(super) fn read<T>(&mut self, octets: &[u8], reader: impl FnOnce(&[u8]) -> (usize, T)) -> T {
        if self.0.is_empty() {
            let (done, result) = reader(octets);
            self.0.extend_from_slice(octets.get(done..).unwrap_or_default());
            return result;
        }
        self.0.extend_from_slice(octets);
        let (done, result) = reader(&self.0);
        self.0.drain(..done.min(self.0.len()));
        result
    }
}
