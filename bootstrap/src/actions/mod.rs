//! How steps are done. Each is safe to do again: what was decided before is taken from the record.

mod certificate;
mod controller;
mod placement;
mod ports;
mod random;
mod run_app;
mod wait;
mod wait_hosts;

use discoverd_api::{DiscoverdResolver, Servers};
use kit_http::ClientError;

use crate::cluster::Host;
use crate::options::Options;
use crate::record::{Record, RecordError};
use crate::steps::Action;
use crate::values::{Facts, Value, ValueError};

/// What a step works with.
pub(crate) struct Context<'a> {
    /// The step's name.
    pub(crate) step: &'static str,
    pub(crate) hosts: &'a [Host],
    pub(crate) options: &'a Options,
    pub(crate) record: &'a mut Record,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The environment lacks something.
    #[error("Missing required environment variable(s): {}", .0.join(", "))]
    MissingEnv(Vec<String>),
    /// Ports are taken.
    #[error("conflicts detected!{}", .0.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Conflicts(Vec<String>),
    /// A port of the platform is no port.
    #[error("{0:?} is no port: give a number from 1 to 65535")]
    NoPort(String),
    /// A value is not known.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A host or another service refused or did not answer.
    #[error("{action} failed")]
    Call {
        /// What was to be done.
        action: String,
        /// Why.
        source: ClientError,
    },
    /// discoverd refused or did not answer.
    #[error("asking discoverd failed")]
    Discoverd(#[from] discoverd_api::DiscoverdError),
    /// No host has such an image.
    #[error("no host has image {0:?}: import it with `flynn-host image import {0} DIR`")]
    NoImage(String),
    /// A host's image is not what it should be.
    #[error("image {image:?} of host {host} is not an artifact")]
    BadImage {
        /// The image.
        image: String,
        /// The host.
        host: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A release cannot be run.
    #[error(transparent)]
    Job(#[from] controller_api::BuildJobError),
    /// A job ended instead of starting.
    #[error("job {job} of {process} did not start: {reason}")]
    JobEnded {
        /// The job.
        job: String,
        /// App and process type.
        process: String,
        /// What the host says.
        reason: String,
    },
    /// Something took too long.
    #[error("timed out after {seconds} s waiting for {what}: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
    },
    /// A step this one builds on was left out.
    #[error("it needs step {0}, which was not run yet")]
    NotRun(&'static str),
    /// A certificate cannot be made or used.
    #[error(transparent)]
    Tls(#[from] kit_tls::TlsError),
    /// A host of the record is not there.
    #[error("host {0}, which this step was planned for, is not online")]
    HostGone(String),
}

/// Does a step; gives what a person should see of it. Never a secret.
pub(crate) async fn perform(
    action: &Action,
    mut context: Context<'_>,
) -> Result<Option<String>, ActionError> {
    match action {
        Action::RequireEnv(names) => require_env(names, context.options).map(|()| None),
        Action::ResourceCheck(ports) => ports::check(ports, &context).await.map(|()| None),
        Action::RunApp(app) => run_app::run(app, context).await.map(|()| None),
        Action::WaitHosts => wait_hosts::wait(&context).await.map(|()| None),
        Action::GenRandom(spec) => random::make(spec, &mut context).map(|()| None),
        Action::GenTlsCert(spec) => certificate::make(spec, &mut context).map(Some),
        Action::Wait(spec) => wait::wait(spec, &context).await.map(|()| None),
        Action::AddApp(from) => controller::add_app(from, &context).await.map(|()| None),
        Action::DeployApp(app) => controller::deploy_app(app, &mut context).await.map(|()| None),
        Action::ScaleApp { app, counts } => {
            controller::scale_app(app, counts, &context).await.map(|()| None)
        }
        Action::AddProvider { name, url } => {
            controller::add_provider(name, url, &context).await.map(|()| None)
        }
        Action::AddRoute(spec) => controller::add_route(spec, &context).await.map(|()| None),
        Action::CreateArtifact { image } => {
            controller::create_artifact(image, &mut context).await.map(|()| None)
        }
    }
}

fn require_env(names: &[&str], options: &Options) -> Result<(), ActionError> {
    let is_set = |name: &&&str| options.env.get(**name).is_some_and(|value| !value.is_empty());
    let missing: Vec<_> =
        names.iter().filter(|name| !is_set(name)).map(|name| (*name).to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ActionError::MissingEnv(missing)) }
}

impl Context<'_> {
    /// Works out a value.
    fn resolve(&self, value: &Value) -> Result<String, ActionError> {
        let host_ips = self.host_ips();
        Ok(value.resolve(self.facts(&host_ips))?)
    }

    fn host_ips(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.ip.clone()).collect()
    }

    fn facts<'b>(&'b self, host_ips: &'b [String]) -> Facts<'b> {
        let singleton = self.options.is_singleton();
        Facts { env: &self.options.env, host_ips, singleton, record: self.record }
    }

    /// A client of discoverd, as the first host knows it; none while it knows none.
    async fn discoverd(&self) -> Result<Option<discoverd_api::Client>, ActionError> {
        let Some(host) = self.hosts.first() else { return Ok(None) };
        let status =
            host.client.status().await.map_err(call(format!("asking host {}", host.id)))?;
        let url = status.discoverd.map(|discoverd| discoverd.url).filter(|url| !url.is_empty());
        let client = url.map(|url| discoverd_api::Client::new(&Servers::parse(&url)));
        Ok(client.transpose()?)
    }

    /// An HTTP client that knows names below `.discoverd` as soon as there is one.
    async fn http(&self, url: &str) -> Result<kit_http::Client, ClientError> {
        self.http_with(url, |builder| builder).await
    }

    /// [`http`](Self::http) with more settings.
    async fn http_with(
        &self,
        url: &str,
        more: impl FnOnce(kit_http::ClientBuilder) -> kit_http::ClientBuilder,
    ) -> Result<kit_http::Client, ClientError> {
        let builder = more(kit_http::Client::builder(url));
        match self.discoverd().await {
            Ok(Some(discoverd)) => {
                builder.resolver(std::sync::Arc::new(DiscoverdResolver::new(discoverd))).build()
            }
            Ok(None) | Err(_) => builder.build(),
        }
    }
}

fn call(action: impl Into<String>) -> impl FnOnce(ClientError) -> ActionError {
    let action = action.into();
    move |source| ActionError::Call { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_variables_are_all_named() {
        let mut options = Options::new("/nowhere");
        options.env.insert("A".to_owned(), String::new());
        options.env.insert("B".to_owned(), "b".to_owned());
        let error = require_env(&["A", "B", "C"], &options).unwrap_err();
        assert_eq!(error.to_string(), "Missing required environment variable(s): A, C");
    }
}
