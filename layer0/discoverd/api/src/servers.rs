//! Which servers a client asks, as the environment says it.

/// The servers of a cluster's discoverd. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers(Vec<String>);

/// Who is asked where the environment names nobody.
const LOCAL: &str = "http://127.0.0.1:1111";

impl Servers {
    /// Reads the form of the variable `DISCOVERD`: a comma list of URLs, the scheme optional. Nothing,
    /// or `none`, means the server on this machine.
    pub fn parse(list: &str) -> Self {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let urls: Vec<_> = entries.filter(|entry| *entry != "none").map(with_scheme).collect();
        if urls.is_empty() { Self(vec![LOCAL.to_owned()]) } else { Self(urls) }
    }

    /// Reads the variable `DISCOVERD` of this process.
    pub fn from_env() -> Self {
        Self::parse(&std::env::var("DISCOVERD").unwrap_or_default())
    }

    /// The base URLs.
    pub fn urls(&self) -> &[String] {
        &self.0
    }
}

fn with_scheme(entry: &str) -> String {
    let entry = entry.trim_end_matches('/');
    if entry.contains("://") { entry.to_owned() } else { format!("http://{entry}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_a_comma_list_with_optional_schemes() {
        for (list, urls) in [
            ("", vec![LOCAL]),
            ("none", vec![LOCAL]),
            ("192.0.2.1:1111", vec!["http://192.0.2.1:1111"]),
            ("http://a:1/, b:2", vec!["http://a:1", "http://b:2"]),
        ] {
            assert_eq!(Servers::parse(list).urls(), urls, "{list:?}");
        }
    }
}
