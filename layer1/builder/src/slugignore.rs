//! `.slugignore`: what of the source is not needed in the slug. Patterns are the shell's, from the root
//! of the source; links are never followed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes what the patterns of `text` match below `root`; the number of matches.
pub(crate) fn apply(root: &Path, text: &str) -> io::Result<usize> {
    let mut count = 0;
    for pattern in patterns(text) {
        for found in matches(root, pattern) {
            remove(&found)?;
            count += 1;
        }
    }
    Ok(count)
}

/// A file or a link goes, a folder goes with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn patterns(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|pattern| pattern.trim_start_matches('/'))
}

/// What a pattern matches, part by part from the root.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let parts: Vec<_> =
        pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Vec::new();
    }
    let mut found = vec![root.to_owned()];
    for part in parts {
        found = found.iter().flat_map(|folder| children(folder, part)).collect();
    }
    found
}

/// The entries of a folder that a part of a pattern matches, sorted. Links lead nowhere.
fn children(folder: &Path, part: &str) -> Vec<PathBuf> {
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    let Some(entries) = is_folder.then(|| fs::read_dir(folder).ok()).flatten() else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<OsString> =
        names.filter(|name| matches_name(part.as_bytes(), name.as_encoded_bytes())).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// The shell's rules for one name: a leading dot is matched by a dot only.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let is_hidden = name.first() == Some(&b'.');
    if is_hidden && pattern.first() != Some(&b'.') {
        return false;
    }
    glob(pattern, name)
}

/// `*`, `?`, `[a-z]`, `[!a]` and `\` before a character. Remembers the last star only, so that no
/// pattern takes longer than pattern times name.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here, mut star) = (0, 0, None);
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, here));
            continue;
        }
        if here == name.len() && at == pattern.len() {
            return true;
        }
        let taken = name.get(here).and_then(|byte| one(&pattern[at..], *byte));
        match (taken, star) {
            (Some(width), _) => {
                at += width;
                here += 1;
            }
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                at = after;
                here = from + 1;
            }
            (None, Some(_) | None) => return false,
        }
    }
}

/// How much of the pattern one character takes, if it matches.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => match class(rest, byte) {
            Some((true, width)) => Some(width + 1),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(1),
        },
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether a class holds a character, and how long the class is; None when it is not closed.
fn class(rest: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    // A bracket right after the opening one is a member.
    let end = start + 1 + rest.get(start + 1..)?.iter().position(|byte| *byte == b']')?;
    let (members, mut at, mut held) = (&rest[start..end], 0, false);
    while at < members.len() {
        if let [low, b'-', high, ..] = members[at..] {
            held |= (low..=high).contains(&byte);
            at += 3;
        } else {
            held |= members[at] == byte;
            at += 1;
        }
    }
    Some((held != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, want) in [
            ("foo", "foo", true),
            ("foo", "foobar", false),
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.md", "README.md", true),
            ("*.md", "md", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches_name(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_ignored_goes_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("app");
        fs::create_dir_all(root.join("docs/deep")).unwrap();
        fs::create_dir_all(root.join("test")).unwrap();
        for file in ["foo", "bar", "keep", "docs/a.md", "docs/a.rs", "docs/deep/b.md", ".env"] {
            fs::write(root.join(file), "").unwrap();
        }
        fs::write(dir.path().join("outside"), "").unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        let text =
            "# all of this\n\n/foo\nbar missing\ndocs/*.md\n//test/\n../outside\nup/outside\n";
        assert_eq!(apply(&root, text).unwrap(), 4);
        let left = |path: &str| root.join(path).exists();
        for gone in ["foo", "bar", "docs/a.md", "test"] {
            assert!(!left(gone), "{gone}");
        }
        for kept in ["keep", "docs/a.rs", "docs/deep/b.md", ".env"] {
            assert!(left(kept), "{kept}");
        }
        assert!(dir.path().join("outside").exists());
        assert_eq!(apply(&root, "*").unwrap(), 3, "docs, keep, up");
        assert!(left(".env") && dir.path().join("outside").exists());
    }

    /// The definition, without care for time.
    fn reference(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                (0..=name.len()).any(|skipped| reference(rest, &name[skipped..]))
            }
            ([b'?', rest @ ..], [_, name @ ..]) => reference(rest, name),
            ([a, rest @ ..], [b, name @ ..]) => a == b && reference(rest, name),
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_by_definition(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(glob(pattern, name), reference(pattern, name));
        }

        #[test]
        fn no_pattern_harms(pattern in any::<Vec<u8>>(), name in any::<Vec<u8>>()) {
            matches_name(&pattern, &name);
        }
    }
}
