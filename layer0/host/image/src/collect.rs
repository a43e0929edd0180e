//! Which unused layers are forgotten when the disk fills up: the longest unused first, until there is
//! room. A pure choice; the caller says what is in use.

use std::time::SystemTime;

use crate::LayerKey;

/// A layer in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub key: LayerKey,
    /// Bytes of its file.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// When to collect and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Collect once less than this share of the disk is free, in percent.
    pub low: u8,
    /// Until this share is free.
    pub high: u8,
}

impl Default for Watermark {
    fn default() -> Self {
        Self { low: 15, high: 25 }
    }
}

/// The layers to forget.
pub fn choose(
    mut layers: Vec<Kept>,
    in_use: &[LayerKey],
    (free, total): (u64, u64),
    mark: Watermark,
) -> Vec<LayerKey> {
    let share = |percent: u8| total / 100 * u64::from(percent);
    if free >= share(mark.low) {
        return Vec::new();
    }
    layers.retain(|layer| !in_use.contains(&layer.key));
    layers.sort_by_key(|layer| layer.used);
    let mut missing = share(mark.high).saturating_sub(free);
    let mut chosen = Vec::new();
    for layer in layers {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(layer.size);
        chosen.push(layer.key);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn kept(digit: char, size: u64, age: u64) -> Kept {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
        Kept { key: digit.to_string().repeat(64).parse().unwrap(), size, used }
    }

    #[test]
    fn the_longest_unused_go_until_there_is_room() {
        let layers = vec![kept('a', 10, 1), kept('b', 6, 9), kept('c', 6, 5), kept('d', 50, 20)];
        let in_use = [layers[3].key.clone()];
        let mark = Watermark { low: 15, high: 25 };
        assert_eq!(choose(layers.clone(), &in_use, (15, 100), mark), []);
        let chosen = choose(layers.clone(), &in_use, (14, 100), mark);
        assert_eq!(chosen, [layers[1].key.clone(), layers[2].key.clone()]);
    }
}
