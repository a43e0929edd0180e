//! How the wire treats `null`: as if the field had been left out.

use serde::{Deserialize, Deserializer};

/// For `#[serde(deserialize_with)]`: `null` gives the default of the field's type.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// For `#[serde(skip_serializing_if)]`: a number whose zero is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}
