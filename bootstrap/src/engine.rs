//! Runs the steps in order and tells what happens. A step that is done stays done.

use chrono::Utc;
use serde_json::Value as Json;

use crate::actions::{self, ActionError, Context};
use crate::cluster::{self, Host, HostsMissing};
use crate::options::{Options, OptionsError};
use crate::output::{DONE_BEFORE, Sink, StepEvent, StepState};
use crate::record::{Record, RecordError};
use crate::steps::{self, Step};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The hosts of the cluster, by address.
    pub host_ips: Vec<String>,
    /// What a person types to use the cluster; none before there is a controller.
    pub cluster_add: Option<String>,
}

/// Why a run stopped. Another run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// It did not begin.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Not enough hosts.
    #[error(transparent)]
    Hosts(#[from] HostsMissing),
    /// A step failed.
    #[error("step {step} failed")]
    Step {
        /// The step.
        step: &'static str,
        /// Why.
        source: ActionError,
    },
}

/// The first step, which is not one of the list: it finds the hosts, each time.
const ONLINE_HOSTS: &str = "online-hosts";

/// Runs all steps, or those the options name.
pub async fn run(options: Options, sink: &mut dyn Sink) -> Result<Outcome, BootstrapError> {
    run_steps(&steps::all(), &options, sink).await
}

/// [`run`] with steps of the caller.
pub async fn run_steps(
    all: &[Step],
    options: &Options,
    sink: &mut dyn Sink,
) -> Result<Outcome, BootstrapError> {
    let names: Vec<_> = all.iter().map(|step| step.id).collect();
    options.check(&names)?;
    let mut record = Record::open(&options.data_dir)?;
    let hosts = find_hosts(options, sink).await?;
    let asked =
        |step: &&Step| options.steps.is_empty() || options.steps.iter().any(|s| s == step.id);
    for step in all.iter().filter(asked) {
        run_step(step, &hosts, options, &mut record, sink).await?;
    }
    let host_ips = hosts.into_iter().map(|host| host.ip).collect();
    Ok(Outcome { host_ips, cluster_add: cluster_add(&record, options) })
}

async fn find_hosts(options: &Options, sink: &mut dyn Sink) -> Result<Vec<Host>, BootstrapError> {
    tell(sink, ONLINE_HOSTS, "check", StepState::Start, None);
    let wanted = options.hosts_wanted();
    match cluster::online(&options.host_urls(), wanted, options.timeout).await {
        Ok(hosts) => {
            tell(sink, ONLINE_HOSTS, "check", StepState::Done, None);
            Ok(hosts)
        }
        Err(error) => {
            tell(sink, ONLINE_HOSTS, "check", StepState::Error, Some(error.to_string().into()));
            Err(error.into())
        }
    }
}

async fn run_step(
    step: &Step,
    hosts: &[Host],
    options: &Options,
    record: &mut Record,
    sink: &mut dyn Sink,
) -> Result<(), BootstrapError> {
    let action = step.action.name();
    if record.is_done(step.id) {
        tell(sink, step.id, action, StepState::Start, Some(DONE_BEFORE.into()));
        tell(sink, step.id, action, StepState::Done, Some(DONE_BEFORE.into()));
        return Ok(());
    }
    tell(sink, step.id, action, StepState::Start, None);
    let context = Context { step: step.id, hosts, options, record };
    match actions::perform(&step.action, context).await {
        Ok(result) => {
            record.finish(step.id)?;
            tell(sink, step.id, action, StepState::Done, result.map(Json::String));
            Ok(())
        }
        Err(source) => {
            tell(sink, step.id, action, StepState::Error, Some(chain(&source).into()));
            Err(BootstrapError::Step { step: step.id, source })
        }
    }
}

/// The line that scripts read, once certificate and key were made.
fn cluster_add(record: &Record, options: &Options) -> Option<String> {
    let pin = record.field("controller-cert", "Pin")?;
    let key = record.field("controller-key", "Data")?;
    let domain = options.env.get("CLUSTER_DOMAIN")?;
    Some(format!("flynn cluster add -p {pin} default {domain} {key}"))
}

fn tell(sink: &mut dyn Sink, id: &str, action: &str, state: StepState, what: Option<Json>) {
    let is_error = state == StepState::Error;
    let error = what.as_ref().filter(|_| is_error).and_then(Json::as_str).map(str::to_owned);
    let data = what.filter(|_| !is_error);
    let (id, action, ts) = (id.to_owned(), action.to_owned(), Utc::now());
    sink.event(&StepEvent { id, action, data, state, error, ts });
}

/// An error with all that is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
