//! Providers (services that make databases and the like) and the resources they made.

use std::collections::BTreeMap;

use kit_ids::{AppId, ProviderId, ResourceId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient, texts};

/// A service that makes resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The provider's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<ProviderId>,
    /// Where resources are made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub url: String,
    /// A unique name.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub name: String,
    /// When it was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub updated_at: Option<Timestamp>,
}

/// A request for a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceReq {
    /// Ids or names of apps that get it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub apps: Vec<String>,
    /// What the provider is told.
    #[serde(deserialize_with = "lenient")]
    pub config: Option<serde_json::Value>,
}

/// Something a provider made, such as a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// The resource's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<ResourceId>,
    /// Who made it.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub provider: Option<ProviderId>,
    /// The provider's own id of it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub external_id: String,
    /// What an app needs to use it.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub env: BTreeMap<String, String>,
    /// The apps that use it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub apps: Vec<AppId>,
    /// When it was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
}
