//! Sizes as `flynn limit` reads and prints them (spec/cli.md, limit).

const SUFFIXES: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// `512MB`, `1.5GB`: four significant digits, steps of 1024.
pub(crate) fn show_size(bytes: i64) -> String {
    let mut value = bytes as f64;
    let mut suffix = 0;
    while value >= 1024.0 && suffix + 1 < SUFFIXES.len() {
        value /= 1024.0;
        suffix += 1;
    }
    let whole_digits = (value.abs().max(1.0).log10().floor() as usize) + 1;
    let shown = format!("{value:.*}", 4_usize.saturating_sub(whole_digits));
    let shown = if shown.contains('.') {
        shown.trim_end_matches('0').trim_end_matches('.')
    } else {
        &shown
    };
    format!("{shown}{}", SUFFIXES[suffix])
}

/// A number with a suffix in steps of 1024: `1.5GB` of memory.
pub(crate) fn parse_binary_size(text: &str) -> Option<i64> {
    parse(text, 1024.0)
}

/// A number with a suffix in steps of 1000: `12k` file descriptors.
pub(crate) fn parse_decimal_size(text: &str) -> Option<i64> {
    parse(text, 1000.0)
}

/// Digits, an optional fraction, an optional blank, one of `kmgtp` in any case, an optional `b`.
fn parse(text: &str, step: f64) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.strip_suffix('b').unwrap_or(&suffix) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * step.powi(power);
    // Beyond this an i64 would not hold it; no resource is that large.
    (value < 9.0e18).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_with_four_digits() {
        for (bytes, want) in [
            (1 << 30, "1GB"),
            (100 << 20, "100MB"),
            (3 << 29, "1.5GB"),
            (1000, "1000B"),
            (0, "0B"),
            (1_234_567, "1.177MB"),
            (1023 << 20, "1023MB"),
        ] {
            assert_eq!(show_size(bytes), want);
        }
    }

    #[test]
    fn sizes_are_read_in_their_own_step() {
        assert_eq!(parse_binary_size("512MB"), Some(512 << 20));
        assert_eq!(parse_binary_size("1.5GB"), Some(3 << 29));
        assert_eq!(parse_decimal_size("12k"), Some(12_000));
        assert_eq!(parse_decimal_size("2000"), Some(2000));
        for bad in ["", "zz", "-1", "1.", ".5", "1x", "99999999999P"] {
            assert_eq!(parse_binary_size(bad), None, "{bad}");
        }
    }
}
