//! A Procfile: lines of `TYPE: COMMAND`. It looks like YAML and is not: a command may hold any
//! character, colons and hashes included.

/// The process types of a Procfile in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Procfile {
    types: Vec<(String, String)>,
    ignored: Vec<usize>,
}

impl Procfile {
    /// Reads a Procfile. Lines that are no `TYPE: COMMAND` are ignored and remembered.
    pub fn parse(text: &str) -> Self {
        let mut procfile = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Some((name, command)) => procfile.insert(name, command),
                None => procfile.ignored.push(index + 1),
            }
        }
        procfile
    }

    /// A type that is named again has its last command.
    fn insert(&mut self, name: &str, command: &str) {
        match self.types.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => command.clone_into(known),
            None => self.types.push((name.to_owned(), command.to_owned())),
        }
    }

    /// The process types in their order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|(name, _)| name.as_str())
    }

    /// The command of a type.
    pub fn command(&self, process_type: &str) -> Option<&str> {
        let found = self.types.iter().find(|(name, _)| name == process_type);
        found.map(|(_, command)| command.as_str())
    }

    /// The numbers of lines that say nothing.
    pub fn ignored(&self) -> &[usize] {
        &self.ignored
    }
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (name, command) = line.split_once(':')?;
    let (name, command) = (name.trim_end(), unquoted(command.trim()));
    (is_process_type(name) && !command.is_empty()).then_some((name, command))
}

/// Whether a text can be the name of a process type: letters, digits, `-` and `_`.
pub fn is_process_type(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.len() <= 100 && name.bytes().all(is_known)
}

/// People who take the file for YAML put a whole command in quotes.
fn unquoted(command: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = command.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote) && inner.contains(' ')) {
            return inner;
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_hold_any_character() {
        let text = "\u{feff}# comment\n\nweb:  bundle exec rackup -p $PORT # here\r\nclock:./clock a:b\n\
            no type\nbad name: x\nempty:\nquoted: \"node server.js --a 'b'\"\ntwo: \"a b\" \"c\"\nweb: last\n";
        let procfile = Procfile::parse(text.trim_start_matches('\u{feff}'));
        let found: Vec<_> = procfile.types.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            found,
            [
                ("web", "last"),
                ("clock", "./clock a:b"),
                ("quoted", "node server.js --a 'b'"),
                ("two", "\"a b\" \"c\""),
            ]
        );
        assert_eq!(procfile.ignored(), [5, 6, 7]);
        assert_eq!(procfile.command("nothing"), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            types in proptest::collection::btree_map("[a-z0-9_-]{1,12}", "[!-~&&[^'\"#]][ -~&&[^'\"]]{0,30}[!-~&&[^'\"]]", 0..6)
        ) {
            let text: String = types.iter().map(|(name, command)| format!("{name}: {command}\n")).collect();
            let procfile = Procfile::parse(&text);
            prop_assert_eq!(procfile.types().collect::<Vec<_>>(), types.keys().collect::<Vec<_>>());
            for (name, command) in &types {
                prop_assert_eq!(procfile.command(name), Some(command.as_str()));
            }
        }

        #[test]
        fn no_text_harms(text in any::<String>()) {
            let procfile = Procfile::parse(&text);
            prop_assert!(procfile.types().all(is_process_type));
        }
    }
}
