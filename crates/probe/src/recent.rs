//! A map of bounded size that forgets what was not asked for of late.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: the newer takes what is written and what is asked for; when it is full, the older is
/// forgotten and the newer becomes the older. So at least the last `generation` keys are known, and at
/// most twice as many are kept.
pub(crate) struct Recent<K, V> {
    generation: usize,
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(generation: usize) -> Self {
        Self { generation, newer: HashMap::new(), older: HashMap::new() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.older.remove_entry(key) {
            self.insert(key, value);
        }
        self.newer.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.newer.len() >= self.generation && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.older.remove(&key);
        self.newer.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_is_forgotten() {
        let mut recent = Recent::new(2);
        for key in 0..3 {
            recent.insert(key, key * 10);
        }
        // 0 and 1 are the older generation; asking keeps.
        assert_eq!(recent.get(&0), Some(&mut 0));
        recent.insert(3, 30);
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&0), Some(&mut 0));
        recent.insert(3, 31);
        assert_eq!(recent.get(&3), Some(&mut 31));
        assert!(recent.newer.len() + recent.older.len() <= 4);
    }
}
