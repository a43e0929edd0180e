//! The operating-system account the server runs as: PostgreSQL refuses to run as root.

use std::path::Path;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why an account is not known.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file could not be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such user.
    #[error("there is no user {name:?} in {file}: is the server's package installed?")]
    Unknown {
        /// The user's name.
        name: String,
        /// Where it was looked for.
        file: String,
    },
}

impl Account {
    /// Looks `name` up in /etc/passwd. Static programs cannot ask other name services.
    pub fn named(name: &str) -> Result<Self, AccountError> {
        let file = "/etc/passwd";
        let text = std::fs::read_to_string(Path::new(file))
            .map_err(|source| AccountError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(&text, name)
            .ok_or_else(|| AccountError::Unknown { name: name.to_owned(), file: file.to_owned() })
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        let uid = numbers.next()?.parse().ok()?;
        Some(Self { uid, gid: numbers.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:1:1::/:/x\npostgres:x:102:104::/:/x\n";
        assert_eq!(Account::parse(passwd, "postgres"), Some(Account { uid: 102, gid: 104 }));
        assert_eq!(Account::parse(passwd, "post"), None);
    }
}
