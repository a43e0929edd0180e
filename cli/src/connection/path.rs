//! Paths of requests. What a person typed is data: a segment or a query value, never a part of the
//! path's structure.

use std::fmt::Write as _;

/// A path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// The path of these segments.
    pub(crate) fn of(segments: &[&str]) -> Self {
        let mut text = String::new();
        for segment in segments {
            text.push('/');
            encode(segment, &mut text);
        }
        Self { text, has_query: false }
    }

    /// The same path with one more query parameter.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        encode(key, &mut self.text);
        self.text.push('=');
        encode(value, &mut self.text);
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str, into: &mut String) {
    // `.` and `..` would be taken for directories.
    let is_dots = text == "." || text == "..";
    for byte in text.bytes() {
        match byte {
            b'.' if is_dots => into.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                into.push(char::from(byte))
            }
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_stays_data() {
        let path = Path::of(&["apps", "a/../b?c", "jobs"])
            .with("stream_types", "stdout,stderr")
            .with("q", "a&b");
        assert_eq!(path.as_str(), "/apps/a%2F..%2Fb%3Fc/jobs?stream_types=stdout%2Cstderr&q=a%26b");
        assert_eq!(Path::of(&["apps", ".."]).as_str(), "/apps/%2E%2E");
    }
}
