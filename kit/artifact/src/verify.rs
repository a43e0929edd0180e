//! Whether fetched bytes are the ones that were named: size and hashes, checked while they stream.

use crate::digest::{HashAlgorithm, Hasher, Hashes};

/// Why bytes are not what was named. The texts are part of the controller's API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Of no known algorithm, that is.
    #[error("verify: no hashes provided")]
    NoHashes,
    /// A size of zero names nothing.
    #[error("verify: size must be greater than zero")]
    NoSize,
    /// The data ended before its size.
    #[error("verify: data too short")]
    TooShort,
    /// The data goes on after its size, and is right up to there.
    #[error("verify: data too long")]
    TooLong,
    /// The data is other data.
    #[error("verify: expected {} hash {want:?} but got {got:?}", .algorithm.as_str())]
    Mismatch {
        /// The algorithm.
        algorithm: HashAlgorithm,
        /// What was named.
        want: String,
        /// What came.
        got: String,
    },
}

/// Takes bytes in pieces and says at the end, or as soon as it knows, whether they are the named ones.
#[derive(Clone, Debug)]
pub struct Verifier {
    size: u64,
    seen: u64,
    hashes: Vec<(HashAlgorithm, String, Hasher)>,
}

impl Verifier {
    /// A verifier of `size` bytes with these hashes; at least one must be of a known algorithm.
    pub fn new(size: u64, hashes: &Hashes) -> Result<Self, VerifyError> {
        let known = |algorithm| {
            let want = hashes.get(algorithm)?;
            Some((algorithm, want.to_owned(), HashAlgorithm::hasher(algorithm)))
        };
        let hashes: Vec<_> = HashAlgorithm::ALL.into_iter().filter_map(known).collect();
        if hashes.is_empty() {
            return Err(VerifyError::NoHashes);
        }
        if size == 0 {
            return Err(VerifyError::NoSize);
        }
        Ok(Self { size, seen: 0, hashes })
    }

    /// How many bytes are still to come.
    pub fn missing(&self) -> u64 {
        self.size - self.seen
    }

    /// The next bytes. An error as soon as there are more than the size: the reader need not go on.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        let wanted = usize::try_from(self.missing()).map_or(bytes.len(), |n| n.min(bytes.len()));
        let (bytes, more) = bytes.split_at(wanted);
        for (_, _, hasher) in &mut self.hashes {
            hasher.update(bytes);
        }
        self.seen += bytes.len() as u64;
        if more.is_empty() {
            return Ok(());
        }
        // Other data is the better explanation, where it is one.
        self.clone().finish()?;
        Err(VerifyError::TooLong)
    }

    /// The verdict at the end of the data.
    pub fn finish(self) -> Result<(), VerifyError> {
        if self.missing() > 0 {
            return Err(VerifyError::TooShort);
        }
        for (algorithm, want, hasher) in self.hashes {
            let got = hasher.finish();
            if !got.eq_ignore_ascii_case(&want) {
                return Err(VerifyError::Mismatch { algorithm, want, got });
            }
        }
        Ok(())
    }
}

/// The verdict on data that is in memory.
pub fn verify(data: &[u8], size: u64, hashes: &Hashes) -> Result<(), VerifyError> {
    let mut verifier = Verifier::new(size, hashes)?;
    verifier.update(data)?;
    verifier.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use HashAlgorithm::{Sha256, Sha512, Sha512_256};

    // The hashes of "abc" as FIPS 180-4's examples have them.
    const ABC: [(HashAlgorithm, &str); 3] = [
        (Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (Sha512_256, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
    ];

    fn all() -> Hashes {
        ABC.iter()
            .map(|(algorithm, hex)| (algorithm.as_str().to_owned(), (*hex).to_owned()))
            .collect()
    }

    #[test]
    fn each_algorithm_is_checked() {
        assert_eq!(verify(b"abc", 3, &all()), Ok(()));
        for (algorithm, hex) in ABC {
            assert_eq!(verify(b"abc", 3, &Hashes::of(algorithm, hex.to_uppercase())), Ok(()));
            let error = verify(b"abd", 3, &Hashes::of(algorithm, hex)).unwrap_err();
            let start =
                format!("verify: expected {} hash \"{hex}\" but got \"", algorithm.as_str());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn one_wrong_hash_among_right_ones_is_refused() {
        let pairs =
            all().into_iter().map(|(name, hex)| (name.clone(), hex.clone())).collect::<Vec<_>>();
        for at in 0..pairs.len() {
            let mut mixed = pairs.clone();
            mixed[at].1 = "00".repeat(32);
            let error = verify(b"abc", 3, &mixed.into_iter().collect()).unwrap_err();
            assert!(matches!(error, VerifyError::Mismatch { .. }));
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(verify(b"ab", 3, &all()), Err(VerifyError::TooShort));
        assert_eq!(verify(b"abcd", 3, &all()), Err(VerifyError::TooLong));
        assert!(matches!(verify(b"xyzd", 3, &all()), Err(VerifyError::Mismatch { .. })));
        assert_eq!(verify(b"", 0, &all()), Err(VerifyError::NoSize));
        let unknown = Hashes::from_iter([("md5".to_owned(), "x".to_owned())]);
        assert_eq!(verify(b"abc", 3, &unknown), Err(VerifyError::NoHashes));
        assert_eq!(verify(b"abc", 3, &Hashes::default()), Err(VerifyError::NoHashes));
    }

    #[test]
    fn pieces_do_not_matter() {
        for cut in 0..=3 {
            let mut verifier = Verifier::new(3, &all()).unwrap();
            verifier.update(&b"abc"[..cut]).unwrap();
            assert_eq!(verifier.missing(), 3 - cut as u64);
            verifier.update(&b"abc"[cut..]).unwrap();
            assert_eq!(verifier.finish(), Ok(()));
        }
    }
}
