//! One deployment, from wherever it stands to its end.
//!
//! Each turn looks at what is: both formations, the scale request that the last step made, the jobs.
//! Then it waits, or takes the next step of the strategy, or decides to go back, which is recorded
//! before it is done. So it does not matter who takes the next turn.

use std::collections::BTreeSet;
use std::time::Duration;

use controller_api::{
    Deployment, DeploymentStatus, ProcessCounts, ProcessTags, Release, ScaleRequest, Strategy,
};
use kit_ids::{AppId, DeploymentId};
use kit_pg::{Client, GenericClient, Listener};
use rollout::{Counts, RequestPhase, Step, StepFailure, Terms, Verdict};

use super::{Worker, probe, sight, words};
use crate::change::Change;
use crate::failure::{Answer, Failure};
use crate::queue::{self, Claim, Task};
use crate::{apps, deployments, formations, releases, rows, scaling};

/// How long after the last news a deployment looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// News of one moment make one turn.
const SETTLE: Duration = Duration::from_millis(20);
/// How long old jobs may take to stop before the next step is taken all the same.
const STOP_WAIT: Duration = Duration::from_secs(45);
/// How long a rollback waits for the old release's jobs before the new ones go.
const ROLLBACK_WAIT: Duration = Duration::from_secs(10);

/// Why a database of one server keeps its release. The first words are the wire's.
const SINGLETON: &str = "sirenia cluster in singleton mode: a database that is one server has no other to \
     go on while it is replaced, and this cluster's own state is in it; its release stays as it is";

/// Carries a deployment out, to its end.
pub(super) async fn perform(
    worker: &Worker,
    claim: &Claim,
    id: &DeploymentId,
    mut news: Listener,
) -> Answer<()> {
    loop {
        let mut client = worker.client().await?;
        let turn = match Scene::look(&client, id).await? {
            Some(scene) => scene.turn(worker, claim, &mut client).await?,
            None => abandon(claim, &mut client).await?,
        };
        drop(client);
        match turn {
            Turn::Over => return Ok(()),
            Turn::Acted => {}
            Turn::Waits => {
                // Whatever is missed here is seen at the next look.
                drop(tokio::time::timeout(LOOK_AGAIN, news.woken()).await);
                tokio::time::sleep(SETTLE).await;
            }
        }
    }
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing can be done before something happens.
    Waits,
    /// Something was changed: look again.
    Acted,
    /// The deployment has ended.
    Over,
}

/// Everything a turn is decided by.
#[derive(Debug)]
struct Scene {
    id: String,
    app: AppId,
    deployment: Deployment,
    old: Release,
    new: Release,
    now: Counts,
    /// Why it goes back, once that is decided.
    failure: Option<String>,
    /// Process types whose new jobs have shown that they stay up.
    proven: BTreeSet<String>,
    /// The app was deleted meanwhile.
    is_orphan: bool,
}

impl Scene {
    /// None when the deployment is over or was never begun.
    async fn look(db: &impl GenericClient, id: &DeploymentId) -> Answer<Option<Self>> {
        let row = match deployments::find_row(db, id).await {
            Ok(row) => row,
            Err(Failure::NotFound) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let deployment = deployments::from_row(&row)?;
        let (Some(app), Some(old), Some(new), None) = (
            deployment.app.clone(),
            &deployment.old_release,
            &deployment.new_release,
            &deployment.finished_at,
        ) else {
            return Ok(None);
        };
        let is_orphan = match apps::find_id(db, app.as_str()).await {
            Ok(_) => false,
            Err(Failure::NotFound) => true,
            Err(failure) => return Err(failure),
        };
        let proven: Vec<String> = row.try_get("proven")?;
        Ok(Some(Self {
            id: id.to_string(),
            old: releases::find_any(db, old.as_str()).await?,
            new: releases::find_any(db, new.as_str()).await?,
            now: Counts {
                old: counts(db, &app, old.as_str()).await?,
                new: counts(db, &app, new.as_str()).await?,
            },
            app,
            failure: row.try_get("failure")?,
            proven: proven.into_iter().collect(),
            deployment,
            is_orphan,
        }))
    }

    async fn turn(&self, worker: &Worker, claim: &Claim, client: &mut Client) -> Answer<Turn> {
        if self.is_orphan {
            return self.fail(claim, client, "the app was deleted").await;
        }
        if let Some(failure) = &self.failure {
            return self.roll_back(claim, client, failure).await;
        }
        if self.old.id == self.new.id {
            return self.complete(claim, client).await;
        }
        let strategy = match self.strategy(worker).await? {
            Ok(strategy) => strategy,
            Err(refusal) => return self.decide_to_go_back(claim, client, &refusal).await,
        };
        match self.judge_new(worker, client).await? {
            Verdict::Settled => {}
            Verdict::Waiting => return Ok(Turn::Waits),
            Verdict::Failed(failure) => {
                return self.decide_to_go_back(claim, client, &failure.to_string()).await;
            }
        }
        if !self.on_trial().is_empty() && !self.now.new.is_empty() {
            return self.note_proven(claim, client).await;
        }
        if strategy != rollout::Strategy::AllAtOnce {
            match self.judge_old(client).await? {
                Verdict::Settled => {}
                Verdict::Waiting => return Ok(Turn::Waits),
                Verdict::Failed(failure) => {
                    return self.decide_to_go_back(claim, client, &failure.to_string()).await;
                }
            }
        }
        match rollout::next_step(strategy, &self.wanted(), &self.now) {
            Step::ScaleNew(counts) => self.scale_new(claim, client, counts).await,
            Step::ScaleOld { counts, .. } => self.scale_old(claim, client, counts).await,
            Step::Done => self.complete(claim, client).await,
        }
    }

    /// How it proceeds, or why it cannot.
    async fn strategy(&self, worker: &Worker) -> Answer<Result<rollout::Strategy, String>> {
        Ok(match self.deployment.strategy.unwrap_or(Strategy::AllAtOnce) {
            Strategy::AllAtOnce => Ok(rollout::Strategy::AllAtOnce),
            Strategy::OneByOne => Ok(rollout::Strategy::OneByOne),
            Strategy::OneDownOneUp => Ok(rollout::Strategy::OneDownOneUp),
            Strategy::InBatches => {
                let size = match self.deployment.deploy_batch_size {
                    Some(size) => size.unsigned_abs(),
                    None => u32::try_from(worker.0.hosts.count().await?).unwrap_or(1),
                };
                Ok(rollout::Strategy::InBatches { size })
            }
            Strategy::Sirenia => self.sirenia(),
            Strategy::DiscoverdMeta => self.discoverd_meta(),
        })
    }

    /// A database that does not run is replaced like everything else.
    fn sirenia(&self) -> Result<rollout::Strategy, String> {
        let variable = "SIRENIA_PROCESS";
        let process = self.old.env.get(variable).or_else(|| self.new.env.get(variable));
        let process = process.ok_or("unable to determine sirenia process type")?;
        if !self.new.processes.contains_key(process) {
            return Err("sirenia process type not present in new release".to_owned());
        }
        match self.deployment.processes.get(process) {
            None | Some(0) => Ok(rollout::Strategy::OneByOne),
            Some(1) => Err(SINGLETON.to_owned()),
            Some(_) => Err("replacing a running sirenia cluster is not possible yet".to_owned()),
        }
    }

    /// Without a service there is nobody to confirm a step.
    fn discoverd_meta(&self) -> Result<rollout::Strategy, String> {
        let confirms = |name: &&String| {
            self.new.processes.get(*name).is_some_and(|process| !process.service.is_empty())
        };
        match self.deployment.processes.keys().find(confirms) {
            None => Ok(rollout::Strategy::OneByOne),
            Some(name) => Err(format!(
                "strategy discoverd-meta is not possible yet for process types with a service, such as {name}"
            )),
        }
    }

    /// The counts to end with: the old ones, of types that the new release still has.
    fn wanted(&self) -> ProcessCounts {
        let kept = self.deployment.processes.iter();
        let kept = kept.filter(|(name, _)| self.new.processes.contains_key(*name));
        kept.map(|(name, count)| (name.clone(), *count)).collect()
    }

    fn tags(&self) -> Option<ProcessTags> {
        let kept = self.deployment.tags.iter();
        let kept = kept.filter(|(name, _)| self.new.processes.contains_key(*name));
        let kept: ProcessTags = kept.map(|(name, tags)| (name.clone(), tags.clone())).collect();
        (!kept.is_empty()).then_some(kept)
    }

    /// Process types with new jobs that have not shown yet that they stay up.
    fn on_trial(&self) -> BTreeSet<String> {
        let running = self.now.new.iter().filter(|(_, count)| **count > 0);
        let names = running.map(|(name, _)| name.clone());
        names.filter(|name| !self.proven.contains(name)).collect()
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.deployment.deploy_timeout).unwrap_or(0))
    }

    /// Whether the last step up has worked.
    async fn judge_new(&self, worker: &Worker, db: &impl GenericClient) -> Answer<Verdict> {
        let Some(request) = sight::request(db, &self.app, &self.new, &self.id).await? else {
            return Ok(Verdict::Settled);
        };
        let seen = sight::step(db, &self.app, &self.new, &request).await?;
        let mut terms = Terms {
            wanted: self.now.new.clone(),
            timeout: self.timeout(),
            on_trial: self.on_trial(),
            probation: worker.0.config.probation,
            owed: words::owed(&self.new),
        };
        let verdict = rollout::judge(&terms, &seen);
        if matches!(verdict, Verdict::Failed(StepFailure::TooLate { .. })) {
            // Its words last for ever, so it is worth a closer look.
            terms.owed = probe::owed(worker, db, &self.app, &self.new).await?;
            return Ok(rollout::judge(&terms, &seen));
        }
        Ok(verdict)
    }

    /// Whether the last step down is over: its jobs have ended, or had time enough to.
    async fn judge_old(&self, db: &impl GenericClient) -> Answer<Verdict> {
        let Some(request) = sight::request(db, &self.app, &self.old, &self.id).await? else {
            return Ok(Verdict::Settled);
        };
        Ok(match request.phase {
            RequestPhase::Pending if request.age < self.timeout() => Verdict::Waiting,
            RequestPhase::Pending => {
                Verdict::Failed(StepFailure::TooLate { waited: request.age, missing: Vec::new() })
            }
            RequestPhase::Complete | RequestPhase::Cancelled => {
                let still = sight::stopping(db, &self.app, &self.old).await?;
                if still > 0 && request.age < STOP_WAIT {
                    Verdict::Waiting
                } else {
                    Verdict::Settled
                }
            }
        })
    }

    async fn scale_new(
        &self,
        claim: &Claim,
        client: &mut Client,
        counts: ProcessCounts,
    ) -> Answer<Turn> {
        tracing::info!(deployment = %self.id, release = ?self.new.id, ?counts, "scaling the new release");
        let request = ScaleRequest::pending(Some(counts), self.tags());
        self.scale(claim, client, &self.new, request, scaling::Kind::Scale).await
    }

    async fn scale_old(
        &self,
        claim: &Claim,
        client: &mut Client,
        counts: ProcessCounts,
    ) -> Answer<Turn> {
        tracing::info!(deployment = %self.id, release = ?self.old.id, ?counts, "scaling the old release");
        let request = ScaleRequest::pending(Some(counts), None);
        self.scale(claim, client, &self.old, request, scaling::Kind::Scale).await
    }

    async fn scale(
        &self,
        claim: &Claim,
        client: &mut Client,
        release: &Release,
        request: ScaleRequest,
        kind: scaling::Kind,
    ) -> Answer<Turn> {
        let mut change = Change::begin(client).await?;
        claim.hold(&change).await?;
        scaling::add_in(&mut change, &self.app, release, request, kind).await?;
        change.commit().await?;
        Ok(Turn::Acted)
    }

    async fn note_proven(&self, claim: &Claim, client: &mut Client) -> Answer<Turn> {
        let proven: Vec<String> = self.proven.union(&self.on_trial()).cloned().collect();
        let change = Change::begin(client).await?;
        claim.hold(&change).await?;
        let query = "UPDATE deployments SET proven = $2 WHERE id = $1::text::uuid";
        change.tx().execute(query, &[&self.id, &proven]).await?;
        change.commit().await?;
        Ok(Turn::Acted)
    }

    /// Recorded before it is done, so that a deployment that goes back never goes forward again.
    async fn decide_to_go_back(
        &self,
        claim: &Claim,
        client: &mut Client,
        why: &str,
    ) -> Answer<Turn> {
        tracing::info!(deployment = %self.id, why, "deployment fails, going back");
        let change = Change::begin(client).await?;
        claim.hold(&change).await?;
        let query = "UPDATE deployments SET failure = $2 WHERE id = $1::text::uuid";
        change.tx().execute(query, &[&self.id, &why]).await?;
        change.commit().await?;
        Ok(Turn::Acted)
    }

    /// First the old release as it was, then the new formation goes.
    async fn roll_back(&self, claim: &Claim, client: &mut Client, why: &str) -> Answer<Turn> {
        let original = &self.deployment.processes;
        let is_short = original
            .iter()
            .any(|(name, count)| self.now.old.get(name).copied().unwrap_or(0) != *count);
        if is_short {
            return self.scale_old(claim, client, original.clone()).await;
        }
        if let Some(request) = sight::request(client, &self.app, &self.old, &self.id).await?
            && request.phase == RequestPhase::Pending
            && request.age < ROLLBACK_WAIT
        {
            return Ok(Turn::Waits);
        }
        if self.old.id != self.new.id && self.has_new_formation(client).await? {
            let zero = self.now.new.keys().map(|name| (name.clone(), 0)).collect();
            let request = ScaleRequest::pending(Some(zero), None);
            return self.scale(claim, client, &self.new, request, scaling::Kind::Delete).await;
        }
        self.fail(claim, client, why).await
    }

    async fn has_new_formation(&self, db: &impl GenericClient) -> Answer<bool> {
        let id = rows::text_of(self.new.id.as_ref()).unwrap_or_default();
        match formations::find_row(db, self.app.as_str(), &id).await? {
            Some(row) => Ok(rows::maybe_time(&row, "deleted_at")?.is_none()),
            None => Ok(false),
        }
    }

    async fn complete(&self, claim: &Claim, client: &mut Client) -> Answer<Turn> {
        let mut change = Change::begin(client).await?;
        claim.finish(&change).await?;
        let app = apps::find(change.tx(), self.app.as_str()).await?;
        releases::make_current(&mut change, &app, &self.new).await?;
        deployments::end(&mut change, &self.deployment, DeploymentStatus::Complete, "").await?;
        queue::add(&change, &Task::AppGarbageCollection { app: self.app.clone() }).await?;
        change.commit().await?;
        tracing::info!(deployment = %self.id, app = %app.name, "deployment complete");
        Ok(Turn::Over)
    }

    async fn fail(&self, claim: &Claim, client: &mut Client, why: &str) -> Answer<Turn> {
        let mut change = Change::begin(client).await?;
        claim.finish(&change).await?;
        deployments::end(&mut change, &self.deployment, DeploymentStatus::Failed, why).await?;
        change.commit().await?;
        tracing::info!(deployment = %self.id, app = %self.app, why, "deployment failed");
        Ok(Turn::Over)
    }
}

/// There is nothing to carry out.
async fn abandon(claim: &Claim, client: &mut Client) -> Answer<Turn> {
    let change = Change::begin(client).await?;
    claim.finish(&change).await?;
    change.commit().await?;
    Ok(Turn::Over)
}

/// What a formation asks for; nothing when there is none.
async fn counts(db: &impl GenericClient, app: &AppId, release: &str) -> Answer<ProcessCounts> {
    let Some(row) = formations::find_row(db, app.as_str(), release).await? else {
        return Ok(ProcessCounts::new());
    };
    if rows::maybe_time(&row, "deleted_at")?.is_some() {
        return Ok(ProcessCounts::new());
    }
    Ok(formations::from_row(&row)?.processes.unwrap_or_default())
}
