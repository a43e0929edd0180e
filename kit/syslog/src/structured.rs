//! One element of structured data: `[id name="value" …]`.

use std::fmt;

use bytes::Bytes;

/// An element of structured data, kept as its bytes: two messages are the same when these are.
#[derive(Clone, PartialEq, Eq)]
pub struct StructuredData(Bytes);

/// The id of Flynn's element.
const FLYNN: &[u8] = b"flynn";

impl StructuredData {
    /// `[flynn seq="N"]`, which numbers the lines of a host.
    pub fn flynn(seq: u64) -> Self {
        Self(Bytes::from(format!("[flynn seq=\"{seq}\"]")))
    }

    /// The same element with one more parameter, a number.
    #[must_use]
    pub fn with_number(self, name: &'static str, value: u64) -> Self {
        let open = self.0.len() - 1;
        let parameter = format!(" {name}=\"{value}\"]");
        Self(Bytes::from([&self.0[..open], parameter.as_bytes()].concat()))
    }

    /// The line's number: a parameter `seq` of an element `flynn`, an unsigned 64-bit number.
    pub fn flynn_seq(&self) -> Option<u64> {
        if self.id() == FLYNN { self.number("seq") } else { None }
    }

    /// A parameter that is an unsigned 64-bit number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.params().find(|(other, _)| other == name.as_bytes())?.1;
        let text = std::str::from_utf8(&value).ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    }

    /// The element's id.
    pub fn id(&self) -> &[u8] {
        let inner = &self.0[1..];
        &inner[..inner.iter().position(|byte| matches!(byte, b' ' | b']')).unwrap_or(inner.len())]
    }

    /// The parameters, with escapes undone.
    pub fn params(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let mut rest = &self.0[1 + self.id().len()..];
        std::iter::from_fn(move || {
            let (name, value, after) = param(rest)?;
            rest = after;
            Some((name.to_vec(), value))
        })
    }

    /// The element as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Splits the element off the front of `bytes`; None when there is none, or a damaged one.
    pub(crate) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let inner = bytes.strip_prefix(b"[")?;
        let id = inner.iter().position(|byte| matches!(byte, b' ' | b']' | b'"' | b'='))?;
        if id == 0 {
            return None;
        }
        let mut rest = &inner[id..];
        while let Some((_, _, after)) = param(rest) {
            rest = after;
        }
        let after = rest.strip_prefix(b"]")?;
        let element = &bytes[..bytes.len() - after.len()];
        Some((Self(Bytes::copy_from_slice(element)), after))
    }
}

impl fmt::Debug for StructuredData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Splits ` name="value"` off the front.
fn param(bytes: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let inner = bytes.strip_prefix(b" ")?;
    let end = inner.iter().position(|byte| matches!(byte, b'=' | b' ' | b']' | b'"'))?;
    let (name, rest) = inner.split_at(end);
    let quoted = rest.strip_prefix(b"=\"")?;
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' if !name.is_empty() => return Some((name, value, &quoted[at + 1..])),
            b'"' => return None,
            b'\\' => match bytes.next()? {
                (_, escaped @ (b'"' | b'\\' | b']')) => value.push(*escaped),
                // RFC 5424: a backslash before anything else is a backslash.
                (_, other) => value.extend([b'\\', *other]),
            },
            other => value.push(*other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_split_off_the_front() {
        for (text, want) in [
            (r#"[flynn seq="42"] hello"#, Some((Some(42), " hello"))),
            (r#"[flynn a="b" seq="18446744073709551615"]"#, Some((Some(u64::MAX), ""))),
            (r#"[flynn seq="18446744073709551616"]"#, Some((None, ""))),
            (r#"[flynn seq="-1"]"#, Some((None, ""))),
            (r#"[flynn seq="+1"]"#, Some((None, ""))),
            (r#"[flynn seq=""]"#, Some((None, ""))),
            (r#"[flynn]x"#, Some((None, "x"))),
            (r#"[other seq="1"]"#, Some((None, ""))),
            (r#"[flynn x="a\"]\\b\]" seq="7"]"#, Some((Some(7), ""))),
            (r#"[flynn seq="1"#, None),
            (r#"[flynn seq=1]"#, None),
            (r#"[flynn seq="1"x]"#, None),
            (r#"[ seq="1"]"#, None),
            ("[]", None),
            ("[", None),
            ("-", None),
            ("", None),
        ] {
            let got = StructuredData::split(text.as_bytes());
            let got = got
                .map(|(element, rest)| (element.flynn_seq(), std::str::from_utf8(rest).unwrap()));
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        let (element, _) = StructuredData::split(br#"[a x="q\" b\\ r\] o\z" y=""]"#).unwrap();
        let params: Vec<_> = element.params().collect();
        assert_eq!(
            params,
            [(b"x".to_vec(), br#"q" b\ r] o\z"#.to_vec()), (b"y".to_vec(), Vec::new())]
        );
    }
}
