//! Byte ranges of a request (RFC 9110 §14). Pure.

use std::ops::Range;

/// More ranges than this are answered with the whole file.
const MAX_RANGES: usize = 32;

/// What part of a file a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: there was no range, or none that can be read.
    Whole,
    /// These parts.
    Ranges(Vec<Range<u64>>),
    /// Nothing that exists.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a file of `size` bytes.
pub(crate) fn parse(header: &str, size: u64) -> Part {
    let Some(list) = header.trim().strip_prefix("bytes=") else { return Part::Whole };
    let (mut ranges, mut asked) = (Vec::new(), 0);
    for spec in list.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        asked += 1;
        match one(spec, size) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
            Err(Malformed) => return Part::Whole,
        }
    }
    let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    if asked == 0 || asked > MAX_RANGES || wanted > size {
        return Part::Whole;
    }
    if ranges.is_empty() { Part::Unsatisfiable } else { Part::Ranges(ranges) }
}

struct Malformed;

fn one(spec: &str, size: u64) -> Result<Option<Range<u64>>, Malformed> {
    let (first, last) = spec.split_once('-').ok_or(Malformed)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| Malformed);
    if first.trim().is_empty() {
        let length = number(last)?.min(size);
        return Ok((length > 0).then(|| size - length..size));
    }
    let first = number(first)?;
    let end = match last.trim() {
        "" => size,
        last => number(last)?.saturating_add(1),
    };
    if end <= first && !last.trim().is_empty() {
        return Err(Malformed);
    }
    Ok((first < size).then(|| first..end.min(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_three_bytes() {
        let ranges = |list: &[(u64, u64)]| {
            Part::Ranges(list.iter().map(|(start, end)| *start..*end).collect())
        };
        for (header, want) in [
            ("bytes=1-", ranges(&[(1, 3)])),
            ("bytes=0-0", ranges(&[(0, 1)])),
            ("bytes=-1", ranges(&[(2, 3)])),
            ("bytes=0-99", ranges(&[(0, 3)])),
            ("bytes=0-0, 2-2", ranges(&[(0, 1), (2, 3)])),
            ("bytes=9-", Part::Unsatisfiable),
            ("bytes=9-, 0-0", ranges(&[(0, 1)])),
            ("bytes=2-1", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=x-", Part::Whole),
            ("lines=1-", Part::Whole),
            ("bytes=0-,0-,0-", Part::Whole),
        ] {
            assert_eq!(parse(header, 3), want, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Part::Unsatisfiable);
    }
}
