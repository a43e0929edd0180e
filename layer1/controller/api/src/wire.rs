//! How the wire treats absence: the habits every type of this crate shares. Not a place for types.
//!
//! Clients written against the original server leave out what is empty, and send `null` or `""` where
//! a field has no value; both read as "nothing" here. Objects we write leave out what the
//! specification marks as omitted when empty.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _};
use serde::ser::{Serialize, Serializer};

/// `null` reads as the type's default.
pub(crate) fn lenient<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `null` and `""` read as no value; other texts are parsed.
pub(crate) fn blank_as_none<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: for<'a> Deserialize<'a>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<'de, T: for<'a> Deserialize<'a>> serde::de::Visitor<'de> for Text<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text or null")
        }
        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_str(self)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            if text.is_empty() {
                return Ok(None);
            }
            let text: StrDeserializer<'_, E> = text.into_deserializer();
            T::deserialize(text).map(Some)
        }
    }
    deserializer.deserialize_option(Text(PhantomData))
}

/// No value is written as `""`, for fields that are always present.
#[expect(clippy::ref_option, reason = "the signature serde asks for")]
pub(crate) fn none_as_blank<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize,
    S: Serializer,
{
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

/// A map of texts in which `null` reads as `""`.
pub(crate) fn texts<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let map =
        Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

/// A field that may be absent, `null`, or a value: the three stay apart.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Whether a field is left out.
pub(crate) trait Absent {
    /// Whether this is the value that is not written.
    fn absent(&self) -> bool;
}

/// [`Absent::absent`] in the form that serde's attribute takes.
pub(crate) fn absent<T: Absent>(value: &T) -> bool {
    value.absent()
}

impl<T> Absent for Option<T> {
    fn absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for bool {
    fn absent(&self) -> bool {
        !*self
    }
}

macro_rules! zero_is_absent {
    ($($number:ty),*) => {$(
        impl Absent for $number {
            fn absent(&self) -> bool {
                *self == 0
            }
        }
    )*};
}
zero_is_absent!(i32, u16, u32, i64);

impl Absent for crate::Resources {
    fn absent(&self) -> bool {
        self.0.is_empty()
    }
}
