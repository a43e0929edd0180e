//! Fetching an artifact's manifest and holding it against the digests its maker stated.

use std::time::Duration;

use controller_api::{Artifact, ImageManifest};
use kit_http::{Client, Request};
use serde_json::Value;
use sha2::Digest as _;

use crate::failure::{Answer, Failure};

/// Manifests larger than this are refused, whatever their stated size.
const MAX_SIZE: i64 = 4 << 20;
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a manifest could not be had.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("verify: no hashes provided")]
    NoHashes,
    #[error("verify: data too short")]
    TooShort,
    #[error("verify: expected {algorithm} hash \"{want}\" but got \"{got}\"")]
    Hash { algorithm: &'static str, want: String, got: String },
    #[error("unexpected HTTP status: {0}")]
    Status(http::StatusCode),
    #[error("{0}")]
    Transport(String),
    #[error("the data is no JSON")]
    NotJson,
}

/// The manifest at the artifact's URI.
pub(crate) async fn fetch(http: &Client, artifact: &Artifact) -> Answer<Value> {
    if artifact.size <= 0 {
        return Err(Failure::field("size", "must be greater than zero"));
    }
    if artifact.size > MAX_SIZE {
        return Err(Failure::field("size", format!("must not be greater than {MAX_SIZE}")));
    }
    let uri = &artifact.uri;
    let fetched = fetch_verified(http, artifact).await;
    fetched
        .map_err(|why| Failure::field("manifest", format!("failed to download from {uri}: {why}")))
}

/// Whether a manifest has the form that jobs are made from.
pub(crate) fn check(manifest: &Value) -> Answer<()> {
    let read: Result<ImageManifest, _> = serde::Deserialize::deserialize(manifest);
    read.map(drop).map_err(|error| Failure::field("manifest", format!("is malformed: {error}")))
}

async fn fetch_verified(http: &Client, artifact: &Artifact) -> Result<Value, Problem> {
    if !artifact.hashes.keys().any(|name| ALGORITHMS.iter().any(|(known, _)| known == name)) {
        return Err(Problem::NoHashes);
    }
    let transport = |error: kit_http::ClientError| Problem::Transport(error.to_string());
    let read = async {
        let response = http.send_raw(Request::get(&artifact.uri)).await.map_err(transport)?;
        if response.status() != http::StatusCode::OK {
            return Err(Problem::Status(response.status()));
        }
        response.bytes().await.map_err(transport)
    };
    let timed_out = |_| Problem::Transport(format!("no answer within {} s", TIMEOUT.as_secs()));
    let data = tokio::time::timeout(TIMEOUT, read).await.map_err(timed_out)??;
    let size = usize::try_from(artifact.size).map_err(|_| Problem::TooShort)?;
    // What is longer than stated shows as another digest.
    let data = data.get(..size).ok_or(Problem::TooShort)?;
    verify(data, artifact)?;
    serde_json::from_slice(data).map_err(|_| Problem::NotJson)
}

type Digest = fn(&[u8]) -> String;

const ALGORITHMS: [(&str, Digest); 3] = [
    ("sha256", |data| hex::encode(sha2::Sha256::digest(data))),
    ("sha512", |data| hex::encode(sha2::Sha512::digest(data))),
    ("sha512_256", |data| hex::encode(sha2::Sha512_256::digest(data))),
];

fn verify(data: &[u8], artifact: &Artifact) -> Result<(), Problem> {
    for (algorithm, digest) in ALGORITHMS {
        let Some(want) = artifact.hashes.get(algorithm) else { continue };
        let got = digest(data);
        if got != *want {
            return Err(Problem::Hash { algorithm, want: want.clone(), got });
        }
    }
    Ok(())
}
