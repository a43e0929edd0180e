//! What a route matches, parsed: a domain pattern and path prefix, or a TCP port; and why a route
//! cannot be served.

use std::fmt;

use kit_ids::RouteId;

/// The port of a rule that holds on the default ports, whatever their numbers are.
pub const DEFAULT_PORT: u16 = 0;

/// A route's id and what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The route.
    pub id: RouteId,
    /// What it matches.
    pub matcher: Matcher,
}

/// What a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Requests for a domain and below a path.
    Http {
        /// [`DEFAULT_PORT`], or one additional port.
        port: u16,
        /// The hosts.
        domain: Domain,
        /// The paths.
        path: PathPrefix,
    },
    /// Connections to a port.
    Tcp {
        /// The port listened on.
        port: u16,
    },
}

/// A pattern of host names, lower-case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// One name.
    Exact(Box<str>),
    /// `*.rest`: the rest itself and every name below it.
    Below(Box<str>),
    /// `*`: every name.
    Any,
}

impl Domain {
    /// Parses a route's domain. Capitals do not count; anything but the empty text is a pattern,
    /// even where no host can match it.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            None if text.is_empty() => Err(Reason::NoDomain),
            None if text == "*" => Ok(Self::Any),
            None => Ok(Self::Exact(text.into())),
            Some(rest) => Ok(Self::Below(rest.into())),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(rest) => write!(f, "*.{rest}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A prefix of paths, by whole segments. No segment is the whole domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPrefix {
    segments: Vec<Box<[u8]>>,
}

impl PathPrefix {
    /// Parses a route's path; empty is `/`. Empty segments and a final slash do not count.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(Reason::BadPath);
        }
        let segments = text.split('/').filter(|segment| !segment.is_empty());
        Ok(Self { segments: segments.map(|segment| segment.as_bytes().into()).collect() })
    }

    /// Whether it is the whole domain.
    pub fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// The segments, from the root on.
    pub fn segments(&self) -> &[Box<[u8]>] {
        &self.segments
    }
}

/// A route that is not served, or not as it was meant. It affects no other route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {id} is not served: {reason}")]
pub struct Problem {
    /// The route.
    pub id: RouteId,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// An HTTP route without a domain.
    #[error("it has no domain")]
    NoDomain,
    /// A route that leads nowhere.
    #[error("it has no service")]
    NoService,
    /// A path that does not begin with a slash.
    #[error("its path does not begin with a slash")]
    BadPath,
    /// A port that cannot be listened on.
    #[error("its port {0} is out of range")]
    BadPort(i64),
    /// A path route of a domain that has no `/` route.
    #[error("its domain {0} has no route for /")]
    NoRoot(Domain),
    /// Another route has the same match and came later.
    #[error("route {0} has the same match")]
    Shadowed(RouteId),
}
