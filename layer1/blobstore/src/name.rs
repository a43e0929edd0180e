//! Names of files as they come in a request's path.

/// The longest name, bytes.
const MAX_NAME: usize = 1024;

/// What a request's path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The store itself.
    Root,
    /// A file, by its name with a leading slash.
    File(String),
    /// The client shall ask again with this path.
    Elsewhere(String),
    /// Not a possible name.
    Impossible,
}

/// Reads a decoded path. `//`, `.` and `..` are answered with the cleaned path; one trailing slash is
/// dropped.
pub(crate) fn target(path: &str) -> Target {
    if path.len() > MAX_NAME || path.contains('\0') || !path.starts_with('/') {
        return Target::Impossible;
    }
    if path == "/" {
        return Target::Root;
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let cleaned = clean(trimmed);
    if cleaned == trimmed { Target::File(cleaned) } else { Target::Elsewhere(cleaned) }
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_or_are_sent_elsewhere() {
        let file = |name: &str| Target::File(name.to_owned());
        let elsewhere = |name: &str| Target::Elsewhere(name.to_owned());
        for (path, want) in [
            ("/", Target::Root),
            ("/a/b.txt", file("/a/b.txt")),
            ("/q/", file("/q")),
            ("/a/../x//y.txt", elsewhere("/x/y.txt")),
            ("/../../etc/passwd", elsewhere("/etc/passwd")),
            ("/a/./b", elsewhere("/a/b")),
            ("/a(b", file("/a(b")),
            ("a", Target::Impossible),
            ("/a\0", Target::Impossible),
        ] {
            assert_eq!(target(path), want, "{path:?}");
        }
    }
}
