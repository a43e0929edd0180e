//! What changed between two maps: routes by id, backends by address.

use std::collections::BTreeMap;

/// The difference between an old and a new map, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<'a, K> {
    /// Keys only the new one has.
    pub added: Vec<&'a K>,
    /// Keys of both whose values differ.
    pub changed: Vec<&'a K>,
    /// Keys only the old one has.
    pub removed: Vec<&'a K>,
}

impl<K> Diff<'_, K> {
    /// Whether both maps were the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Compares two maps.
pub fn diff<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Diff<'a, K> {
    let mut diff = Diff { added: Vec::new(), changed: Vec::new(), removed: Vec::new() };
    for (key, value) in new {
        match old.get(key) {
            None => diff.added.push(key),
            Some(before) if before != value => diff.changed.push(key),
            Some(_) => {}
        }
    }
    diff.removed = old.keys().filter(|key| !new.contains_key(key)).collect();
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_every_key_once() {
        let old = BTreeMap::from([(1, "a"), (2, "b"), (3, "c")]);
        let new = BTreeMap::from([(2, "b"), (3, "x"), (4, "d")]);
        let found = diff(&old, &new);
        assert_eq!(found, Diff { added: vec![&4], changed: vec![&3], removed: vec![&1] });
        assert!(diff(&old, &old).is_empty() && !found.is_empty());
    }
}
