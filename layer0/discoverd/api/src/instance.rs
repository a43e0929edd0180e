//! One running copy of a service: where it listens, what it says about itself, and its id.

use std::collections::BTreeMap;
use std::fmt;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::lenient::{is_zero, null_is_default};

/// An instance of a service, as it stands in requests, lists and events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Follows from `proto` and `addr`: see [`instance_id`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub id: InstanceId,
    /// `host:port`. The host may be a name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub addr: String,
    /// Lower-case letters and digits, mostly `tcp`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub proto: String,
    /// What the instance says about itself.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub meta: BTreeMap<String, String>,
    /// The log index of the first registration; discoverd's to set, ignored in requests.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub index: u64,
}

impl Instance {
    /// An instance with the id that belongs to `proto` and `addr`.
    pub fn new(proto: &str, addr: &str) -> Self {
        let (id, index) = (instance_id(proto, addr), 0);
        Self { id, addr: addr.to_owned(), proto: proto.to_owned(), meta: BTreeMap::new(), index }
    }

    /// The same with one more entry of metadata.
    #[must_use]
    pub fn with_meta(mut self, key: &str, value: &str) -> Self {
        self.meta.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Whether both are the same registration: address, protocol and metadata, not the index.
    pub fn same_registration(&self, other: &Self) -> bool {
        self.addr == other.addr && self.proto == other.proto && self.meta == other.meta
    }

    /// The host part of the address, without the brackets of an IPv6 literal.
    pub fn host(&self) -> Option<&str> {
        split_host_port(&self.addr).ok().map(|(host, _)| host)
    }

    /// The port of the address.
    pub fn port(&self) -> Option<u16> {
        split_host_port(&self.addr).ok().and_then(|(_, port)| port.parse().ok())
    }

    /// Checks what discoverd checks, in its order: protocol, address, id.
    pub fn validate(&self) -> Result<(), InstanceError> {
        if self.proto.is_empty() {
            return Err(InstanceError::NoProto);
        }
        if !self.proto.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(InstanceError::BadProto);
        }
        split_host_port(&self.addr)?;
        let expected = instance_id(&self.proto, &self.addr);
        if self.id != expected {
            return Err(InstanceError::WrongId { expected });
        }
        Ok(())
    }
}

/// Why an instance is refused. The texts are part of the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// `proto` is empty.
    #[error("discoverd: proto must be set")]
    NoProto,
    /// `proto` holds other than lower-case letters and digits.
    #[error("discoverd: proto must be lowercase alphanumeric")]
    BadProto,
    /// `addr` is not `host:port`.
    #[error("address {addr}: {reason}")]
    BadAddr {
        /// The address as it was sent.
        addr: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `id` does not follow from protocol and address.
    #[error("discoverd: instance id is incorrect, expected {expected}")]
    WrongId {
        /// The id that would have been right.
        expected: InstanceId,
    },
}

/// An instance's id: 32 lower-case hex digits when it is a right one.
///
/// Any text can be held, because clients may ask for ids that never existed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for InstanceId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for InstanceId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The id of the instance at `addr`: the lower-case hex MD5 of `proto-addr`.
///
/// ```
/// let id = discoverd_api::instance_id("tcp", "10.0.0.1:80");
/// assert_eq!(id.as_str(), "e15086afcc9b0dda9e8d8cb223ff8556");
/// ```
pub fn instance_id(proto: &str, addr: &str) -> InstanceId {
    InstanceId(hex::encode(Md5::digest(format!("{proto}-{addr}"))))
}

/// Splits `host:port`, `[ipv6]:port`; the host comes without brackets. The port is not looked at.
fn split_host_port(addr: &str) -> Result<(&str, &str), InstanceError> {
    let bad = |reason| InstanceError::BadAddr { addr: addr.to_owned(), reason };
    let (head, port) = addr.rsplit_once(':').ok_or_else(|| bad("missing port in address"))?;
    if let Some(inside) = addr.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or_else(|| bad("missing ']' in address"))?;
        let port = after.strip_prefix(':').ok_or_else(|| {
            bad(if after.contains(':') {
                "too many colons in address"
            } else {
                "missing port in address"
            })
        })?;
        if port.contains(':') {
            return Err(bad("too many colons in address"));
        }
        return no_brackets(addr, host, port);
    }
    if head.contains(':') {
        return Err(bad("too many colons in address"));
    }
    no_brackets(addr, head, port)
}

/// Refuses brackets where an address may hold none.
fn no_brackets<'a>(
    addr: &str,
    host: &'a str,
    port: &'a str,
) -> Result<(&'a str, &'a str), InstanceError> {
    let bad = |reason| InstanceError::BadAddr { addr: addr.to_owned(), reason };
    if host.contains('[') || port.contains('[') {
        return Err(bad("unexpected '[' in address"));
    }
    if host.contains(']') || port.contains(']') {
        return Err(bad("unexpected ']' in address"));
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_original() {
        for (addr, id) in [
            ("10.0.0.1:80", "e15086afcc9b0dda9e8d8cb223ff8556"),
            ("10.0.0.2:80", "4b999c520bee976ad3d9ebab81b64c3d"),
            ("10.0.0.2:5432", "c553f2f30d723dea10556c32e6ab7c0e"),
            ("192.168.0.1:80", "4df73837547dfb0b0ba0fef6f7a171e7"),
            ("192.168.0.2:81", "80a4f3ae997ae420f6f1d48b46aa5f4c"),
            ("192.168.0.3:82", "f3d883537e5f5d590bd77b244361b6b0"),
        ] {
            assert_eq!(instance_id("tcp", addr).as_str(), id, "{addr}");
        }
    }

    #[test]
    fn validation_goes_proto_then_address_then_id() {
        let refused = |instance: Instance| instance.validate().unwrap_err().to_string();
        let with =
            |proto: &str, addr: &str| Instance { id: "x".into(), ..Instance::new(proto, addr) };
        assert_eq!(refused(with("", "x")), "discoverd: proto must be set");
        assert_eq!(refused(with("TCP", "x")), "discoverd: proto must be lowercase alphanumeric");
        assert_eq!(refused(with("tcp", "10.0.0.2")), "address 10.0.0.2: missing port in address");
        assert_eq!(
            refused(with("tcp", "10.0.0.2:80")),
            "discoverd: instance id is incorrect, expected 4b999c520bee976ad3d9ebab81b64c3d"
        );
        assert_eq!(Instance::new("tcp", "10.0.0.2:80").validate(), Ok(()));
    }

    #[test]
    fn addresses_split_or_say_why_not() {
        for (addr, host, port) in [
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("db.example.com:5432", "db.example.com", Some(5432)),
            ("[::1]:80", "::1", Some(80)),
            (":80", "", Some(80)),
            ("a:http", "a", None),
        ] {
            let instance = Instance::new("tcp", addr);
            assert_eq!((instance.host(), instance.port()), (Some(host), port), "{addr}");
        }
        for (addr, reason) in [
            ("", "missing port in address"),
            ("::1", "too many colons in address"),
            ("[::1", "missing ']' in address"),
            ("[::1]", "missing port in address"),
            ("[::1]80:", "too many colons in address"),
            ("[::1]:8:0", "too many colons in address"),
            ("a[b:80", "unexpected '[' in address"),
            ("a]b:80", "unexpected ']' in address"),
        ] {
            let error = split_host_port(addr).unwrap_err();
            assert_eq!(error.to_string(), format!("address {addr}: {reason}"));
        }
    }
}
