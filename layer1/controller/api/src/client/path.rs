//! Paths and queries from names that people chose: every element is escaped.

/// `/a/b/c` of the elements, each escaped.
pub(super) fn path(elements: &[&str]) -> String {
    elements.iter().flat_map(|element| ["/".to_owned(), escape(element)]).collect()
}

/// `path?k=v&…`, or the path alone without pairs.
pub(super) fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_element() {
        assert_eq!(path(&["apps", "demo"]), "/apps/demo");
        assert_eq!(path(&["apps", "a/../b?c d"]), "/apps/a%2F..%2Fb%3Fc%20d");
        assert_eq!(with_query("/e", &[]), "/e");
        let pairs = [("app_id", "a&b".to_owned()), ("types", "x,y".to_owned())];
        assert_eq!(with_query("/e", &pairs), "/e?app_id=a%26b&types=x,y");
    }
}
