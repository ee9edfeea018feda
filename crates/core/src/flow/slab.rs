//! A slab holds the state of many flows, found by a flow's number. It grows by pieces, so that nothing is
//! ever copied or held twice for growing, and never shrinks.

/// So many flows have their state in one piece.
const PIECE: usize = 256;

/// The states of some kind, so many values for each flow.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pieces: Vec<Box<[T]>>,
    each: usize,
}

impl<T> Slab<T> {
    /// So many values for each flow.
    pub(crate) fn new(each: usize) -> Self {
        Self { pieces: Vec::new(), each }
    }

    /// Makes sure that there is room for this flow.
    pub(crate) fn reach(&mut self, flow: u32, value: &T)
    where
        T: Clone,
    {
        while self.pieces.len() * PIECE <= flow as usize {
            self.pieces.push(vec![value.clone(); PIECE * self.each].into());
        }
    }

    /// [`reach`](Self::reach) for values that cannot be copied.
    pub(crate) fn reach_by(&mut self, flow: u32, value: impl Fn() -> T) {
        while self.pieces.len() * PIECE <= flow as usize {
            self.pieces.push((0..PIECE * self.each).map(|_| value()).collect());
        }
    }

    /// The first value of a flow.
    #[inline]
    pub(crate) fn one(&self, flow: u32) -> &T {
        let flow = flow as usize;
        &self.pieces[flow / PIECE][flow % PIECE * self.each]
    }

    /// The first value of a flow, to be changed.
    #[inline]
    pub(crate) fn one_mut(&mut self, flow: u32) -> &mut T {
        let flow = flow as usize;
        &mut self.pieces[flow / PIECE][flow % PIECE * self.each]
    }

    /// The values of a flow.
    #[inline]
    pub(crate) fn all(&self, flow: u32) -> &[T] {
        let flow = flow as usize;
        &self.pieces[flow / PIECE][flow % PIECE * self.each..][..self.each]
    }

    /// The values of a flow, to be changed.
    #[inline]
    pub(crate) fn all_mut(&mut self, flow: u32) -> &mut [T] {
        let flow = flow as usize;
        &mut self.pieces[flow / PIECE][flow % PIECE * self.each..][..self.each]
    }
}
