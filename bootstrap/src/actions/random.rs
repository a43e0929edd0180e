//! Secrets: the given one, or random bytes of the system.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{ActionError, Context};
use crate::steps::{Encoding, RandomSpec};

/// What later steps use.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    data: String,
}

/// Makes a secret, unless an interrupted run made it already.
pub(super) fn make(spec: &RandomSpec, context: &mut Context<'_>) -> Result<(), ActionError> {
    if context.record.data::<Secret>(context.step)?.is_some() {
        return Ok(());
    }
    let given = context.resolve(&spec.given)?;
    let data = if given.is_empty() { draw(spec.length, spec.encoding) } else { given };
    Ok(context.record.keep(context.step, &Secret { data })?)
}

fn draw(length: usize, encoding: Encoding) -> String {
    let mut bytes = vec![0_u8; length];
    rand::fill(&mut bytes[..]);
    match encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64Safe => URL_SAFE_NO_PAD.encode(bytes),
        Encoding::Uuid => uuid::Uuid::new_v4().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_asked_form_and_are_never_the_same() {
        for (encoding, length, characters) in [
            (Encoding::Hex, 16, 32),
            (Encoding::Base64, 32, 44),
            (Encoding::Base64Safe, 32, 43),
            (Encoding::Uuid, 16, 36),
        ] {
            let (one, two) = (draw(length, encoding), draw(length, encoding));
            assert_eq!(one.len(), characters, "{encoding:?}");
            assert_ne!(one, two);
        }
    }
}
