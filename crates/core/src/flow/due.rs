//! Which flow is due next. A timeout is the same for all flows, so the flow that was touched first is due
//! first: a queue for each kind of timeout, in which a flow that is touched again goes to the end. So each
//! flow is looked at exactly when it is due, and no sweep over all of them is ever made.

use super::Slab;

const NONE: u32 = u32::MAX;

/// Where a flow stands in a queue: between which others.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    before: u32,
    after: u32,
}

impl Links {
    pub(crate) const NOWHERE: Self = Self { before: NONE, after: NONE };
}

/// Flows by their numbers, the one that was put in or touched first in front. Queues that never have
/// a flow at the same time share their links.
#[derive(Debug)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(crate) fn front(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(crate) fn push(&mut self, links: &mut Slab<Links>, flow: u32) {
        *links.one_mut(flow) = Links { before: self.last, after: NONE };
        match self.last {
            NONE => self.first = flow,
            last => links.one_mut(last).after = flow,
        }
        self.last = flow;
    }

    /// Takes a flow out that is in it.
    pub(crate) fn remove(&mut self, links: &mut Slab<Links>, flow: u32) {
        let Links { before, after } = *links.one(flow);
        match before {
            NONE => self.first = after,
            before => links.one_mut(before).after = after,
        }
        match after {
            NONE => self.last = before,
            after => links.one_mut(after).before = before,
        }
    }

    /// Puts a flow that is in it to the end.
    #[inline]
    pub(crate) fn touch(&mut self, links: &mut Slab<Links>, flow: u32) {
        if self.last != flow {
            self.remove(links, flow);
            self.push(links, flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_touched_first_comes_first() {
        let mut queue = Queue::EMPTY;
        let mut links = Slab::new(1);
        links.reach(999, &Links::NOWHERE);
        (0..1000).for_each(|flow| queue.push(&mut links, flow));
        (0..1000).step_by(2).for_each(|flow| queue.touch(&mut links, flow));
        queue.remove(&mut links, 999);
        let mut order = Vec::new();
        while let Some(flow) = queue.front() {
            queue.remove(&mut links, flow);
            order.push(flow);
        }
        let expected: Vec<u32> = (1..999).step_by(2).chain((0..1000).step_by(2)).collect();
        assert_eq!(order, expected);
    }
}
