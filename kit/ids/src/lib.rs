//! Typed identifiers. A function that takes an [`AppId`] cannot be handed a [`ReleaseId`].
//!
//! Controller objects have UUIDs (lower-case hex 8-4-4-4-12); a job's id is `<host id>-<uuid>`
//! (spec/host.md §2); host ids are what an operator chose. Ids are parsed once, at the edge.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not of the form 8-4-4-4-12 lower-case hex.
    #[error("{0:?} is not a valid id")]
    NotAUuid(String),
    /// A host id that is empty, too long, or holds other than letters, digits, `_` and `.`.
    #[error(
        "host id {0:?} must be 1 to 63 letters, digits, '_' or '.': dashes separate it from the job"
    )]
    HostId(String),
    /// A job id without a host part or a unique part.
    #[error("invalid job id {0:?}: it must be HOST-UUID")]
    JobId(String),
}

/// Whether `text` has the form of a UUID as Flynn writes them: 36 lower-case characters.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// Makes a newtype over the text of a UUID.
macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A fresh random id.
            #[cfg(feature = "random")]
            pub fn random() -> Self {
                Self(uuid::Uuid::new_v4().to_string())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_uuid(text) { Ok(Self(text.to_owned())) } else { Err(ParseIdError::NotAUuid(text.to_owned())) }
            }
        }

        text_form!($name);
    )*};
}

/// Display and, with feature `serde`, a checked text form.
macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_ids! {
    /// An app of the controller.
    AppId,
    /// An image or a set of files a release runs.
    ArtifactId,
    /// One change from a release to another.
    DeploymentId,
    /// A provider of resources, such as the PostgreSQL appliance.
    ProviderId,
    /// An immutable description of how an app's processes run.
    ReleaseId,
    /// Something a provider made, such as a database.
    ResourceId,
    /// A router's route.
    RouteId,
    /// A request to change a formation's counts.
    ScaleRequestId,
    /// A volume of a host.
    VolumeId,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(String);

impl HostId {
    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The default id of a machine: its name without dashes (spec/host.md §2).
    pub fn from_hostname(hostname: &str) -> Result<Self, ParseIdError> {
        hostname.replace('-', "").parse()
    }
}

impl FromStr for HostId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if text.is_empty() || text.len() > 63 || !text.chars().all(allowed) {
            return Err(ParseIdError::HostId(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

text_form!(HostId);

/// A job on a host: `<host id>-<unique part>`.
///
/// The unique part is a UUID in everything Flynn makes; ids of other clients may have any text of
/// letters, digits, `-`, `_` and `.`, because the id names files and cgroups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl JobId {
    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fresh id for a job on `host`.
    #[cfg(feature = "random")]
    pub fn random(host: &HostId) -> Self {
        Self(format!("{host}-{}", uuid::Uuid::new_v4()))
    }

    /// The text before the first dash.
    pub fn host_part(&self) -> &str {
        self.0.split_once('-').map_or("", |(host, _)| host)
    }

    /// The text after the first dash; also the job's host name inside its container.
    pub fn unique_part(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(_, unique)| unique)
    }
}

impl FromStr for JobId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseIdError::JobId(text.to_owned());
        let (host, unique) = text.split_once('-').ok_or_else(wrong)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.parse::<HostId>().is_err()
            || unique.is_empty()
            || text.len() > 128
            || !unique.chars().all(allowed)
        {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

text_form!(JobId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_lower_case_and_complete() {
        let good = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
        assert_eq!(good.parse::<AppId>().unwrap().as_str(), good);
        for bad in
            ["", "x", "0F0E0D0C-1111-4222-8333-ABCDEFABCDEF", "0f0e0d0c11114222-8333-abcdefabcdef"]
        {
            assert!(bad.parse::<AppId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_job_id_splits_at_the_first_dash() {
        let id: JobId = "host1-0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap();
        assert_eq!(id.host_part(), "host1");
        assert_eq!(id.unique_part(), "0f0e0d0c-1111-4222-8333-abcdefabcdef");
        for bad in ["", "host1", "-x", "host1-", "host1-../../etc", "host1-a b"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_name_loses_its_dashes() {
        assert_eq!(HostId::from_hostname("web-1-eu").unwrap().as_str(), "web1eu");
        assert!("a-b".parse::<HostId>().is_err());
    }
}
