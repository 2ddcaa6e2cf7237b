//! The service: two tasks (sampling, auditing), the state they share, and what the admin port asks of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::memory::MemoryView;
use blobstore_sidecar_api::report::{AuditProgress, LeakReport, VerdictClass};
use blobstore_sidecar_core::hygiene::audit::{Audits, Body, BodyId};
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::hygiene::detector::{Detector, Evaluation, observe, timestamp};
use blobstore_sidecar_core::hygiene::sample::{AuditFindings, Sample};
use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_store::{EngineAddress, EngineAuth};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::actions::{ActionBook, act};
use crate::engine::Engine;
use crate::error::HygieneError;
use crate::hooks::Trimmable;
use crate::metrics::{DRIFTS, ERRORS, KEYS, PASSES, publish};
use crate::{auditor, explain, probe, report, sampler};

/// An engine that could not be calibrated is tried again after this long: its answer will not change soon.
const CALIBRATE_AGAIN: Duration = Duration::from_secs(60);
/// A pass that failed is tried again after this long, unless the usual interval is shorter.
const AUDIT_AGAIN: Duration = Duration::from_secs(10);

/// What hygiene needs to know at start.
#[derive(Clone, Debug)]
pub struct HygieneOptions {
    pub pod: String,
    pub address: EngineAddress,
    pub auth: Option<EngineAuth>,
    pub config: HygieneConfig,
    /// The engine container's memory limit; 0: none known.
    pub engine_limit_bytes: u64,
}

/// Whether the size model holds for the engine's present run.
#[derive(Clone, Debug)]
pub(crate) enum Calibration {
    Pending,
    Done,
    Failed { reason: String, since: Instant },
}

/// What sampling knows of the engine.
#[derive(Debug)]
pub(crate) struct State {
    /// Run id and role that everything below belongs to.
    run: Option<(String, bool)>,
    pub(crate) calibration: Calibration,
    evaluation: Option<Evaluation>,
    report: LeakReport,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: HygieneOptions,
    pub(crate) engine: Engine,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) hooks: Arc<dyn Trimmable>,
    pub(crate) state: Mutex<State>,
    audits: Mutex<Audits>,
    progress: Mutex<AuditProgress>,
    /// Held by a pass and by reclaim: one of them at a time.
    pub(crate) auditing: tokio::sync::Mutex<()>,
    pub(crate) actions: Mutex<ActionBook>,
    pub(crate) action_ended: Notify,
    audit_wanted: Notify,
    sampled: Notify,
    started: Instant,
    started_ms: u64,
}

/// The running service. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Hygiene {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Hygiene {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Hygiene {
    /// Begins to sample and audit; needs a tokio runtime. The ledger must be the one the store was given.
    pub fn start(options: HygieneOptions, ledger: Arc<Ledger>, hooks: Arc<dyn Trimmable>) -> Self {
        let report = LeakReport {
            pod: options.pod.clone(),
            at: timestamp(now_ms()),
            sequence: 0,
            engine_run_id: None,
            verdicts: Vec::new(),
            gates: vec!["no sample has been taken yet".to_owned()],
            figures: Default::default(),
            audit: AuditProgress::default(),
        };
        let state = State { run: None, calibration: Calibration::Pending, evaluation: None, report };
        let inner = Arc::new(Inner {
            engine: Engine::new(options.address.clone(), options.auth.clone()),
            started: Instant::now(),
            started_ms: now_ms(),
            options,
            ledger,
            hooks,
            state: Mutex::new(state),
            audits: Mutex::default(),
            progress: Mutex::default(),
            auditing: tokio::sync::Mutex::new(()),
            actions: Mutex::default(),
            action_ended: Notify::new(),
            audit_wanted: Notify::new(),
            sampled: Notify::new(),
        });
        let tasks = if inner.options.config.enabled {
            vec![
                tasks::spawn("hygiene-sample", sampling(inner.clone())),
                tasks::spawn("hygiene-audit", auditing(inner.clone())),
            ]
        } else {
            Vec::new()
        };
        Self { inner, tasks }
    }

    /// The last report. Before the first sample it has no verdict, and says so as a gate.
    pub fn report(&self) -> LeakReport {
        let mut report = locked(&self.inner.state).report.clone();
        report.audit = locked(&self.inner.progress).clone();
        report
    }

    /// What the engine says of its own memory, explained. Asks it now.
    pub async fn memory(&self) -> Result<MemoryView, HygieneError> {
        let view = explain::view(&self.inner).await;
        view.inspect_err(|error| self.inner.count(error))
    }

    /// Resolves after the next sample.
    pub async fn sampled(&self) {
        self.inner.sampled.notified().await;
    }

    /// Carries out one of [`crate::ACTIONS`]. The caller has checked token and epoch.
    pub async fn act(&self, action: &str, request: &ActionRequest) -> ActionResult {
        act(&self.inner, action, request).await
    }
}

async fn sampling(inner: Arc<Inner>) {
    let mut detector = Detector::new(inner.options.config.clone());
    let period = Duration::from_secs(inner.options.config.sample_seconds.max(1));
    loop {
        let sample = sampler::sample(&inner).await;
        let unchanged = inner.follow(&sample).await;
        if unchanged {
            inner.judge(&mut detector, &sample);
            inner.sampled.notify_waiters();
        }
        let suspicious = locked(&inner.state).evaluation.as_ref().is_some_and(Evaluation::suspicious);
        let wait = match (unchanged, suspicious) {
            // A new engine has been met: the next sample knows its model.
            (false, _) => Duration::ZERO,
            (true, true) => period / 2,
            (true, false) => period,
        };
        tokio::time::sleep(wait).await;
    }
}

async fn auditing(inner: Arc<Inner>) {
    let interval = Duration::from_secs(inner.options.config.audit_interval_seconds.max(1));
    let mut wait = interval;
    loop {
        tokio::select! {
            () = inner.audit_wanted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = match inner.audit().await {
            Ok(_) => interval,
            Err(error) => {
                inner.count(&error);
                interval.min(AUDIT_AGAIN)
            }
        };
    }
}

impl Inner {
    /// Meets a new run or role: calibrates a primary, forgets what was known of another. False: sample again.
    async fn follow(&self, sample: &Sample) -> bool {
        let Some(engine) = &sample.engine else { return true };
        let run = (engine.run_id.clone(), engine.primary);
        let (changed, due) = {
            let mut state = locked(&self.state);
            let changed = state.run.as_ref() != Some(&run);
            if changed {
                state.run = Some(run);
                state.calibration = Calibration::Pending;
                locked(&self.audits).forget();
            }
            let due = match &state.calibration {
                Calibration::Pending => true,
                Calibration::Done => false,
                Calibration::Failed { since, .. } => since.elapsed() >= CALIBRATE_AGAIN,
            };
            (changed, due)
        };
        if changed {
            self.ledger
                .invalidate("the engine restarted or changed role; an audit pass has to rebuild the ledger");
        }
        if !engine.primary || engine.loading || !due {
            return true;
        }
        let calibration = match probe::model(&self.engine).await {
            Ok(model) if engine.keys == 0 => {
                self.ledger.begin_empty(model);
                Calibration::Done
            }
            Ok(model) => {
                self.ledger
                    .set_model(model, "the engine was calibrated; an audit pass has to rebuild the ledger");
                Calibration::Done
            }
            // A cluster that is still forming refuses the probe: the next sample asks again.
            Err(error) if error.category() != "calibration" => {
                self.count(&error);
                return true;
            }
            Err(error) => {
                self.count(&error);
                Calibration::Failed { reason: error.chain(), since: Instant::now() }
            }
        };
        let calibrated = matches!(calibration, Calibration::Done);
        locked(&self.state).calibration = calibration;
        self.audit_wanted.notify_one();
        !calibrated
    }

    fn judge(&self, detector: &mut Detector, sample: &Sample) {
        // How long something has lasted must not depend on steps of the wall clock.
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let evaluation = observe(detector, sample, self.started_ms.saturating_add(passed));
        publish(sample, &evaluation);
        let progress = locked(&self.progress).clone();
        let report = report::report(&self.options.pod, sample, evaluation.clone(), progress, now_ms());
        let mut state = locked(&self.state);
        state.evaluation = Some(evaluation);
        state.report = report;
    }

    /// One pass over the keyspace. Answers the keys seen.
    pub(crate) async fn audit(&self) -> Result<u64, HygieneError> {
        let _alone = self.auditing.lock().await;
        let run = {
            let state = locked(&self.state);
            let ready =
                matches!(state.calibration, Calibration::Done) && state.run.as_ref().is_some_and(|run| run.1);
            if !ready {
                return Err(HygieneError::PassGivenUp("no calibrated primary to audit".to_owned()));
            }
            state.run.clone()
        };
        locked(&self.progress).running = true;
        let told = |keys| locked(&self.progress).keys_seen = keys;
        let finished =
            auditor::run(&self.engine, &self.ledger, self.options.config.orphan_grace_seconds, told).await;
        locked(&self.progress).running = false;
        let auditor::Finished { pass, reconciled } = finished?;
        if locked(&self.state).run != run {
            self.ledger.invalidate("the engine changed during the audit pass");
            return Err(HygieneError::PassGivenUp("the engine changed".to_owned()));
        }
        let keys = pass.keys;
        locked(&self.audits).conclude(pass);
        PASSES.inc();
        KEYS.inc_by(keys);
        if reconciled.drift_bytes > 0 {
            DRIFTS.inc();
            tracing::debug!(bytes = reconciled.drift_bytes, "an audit pass contradicted the ledger");
        }
        let mut progress = locked(&self.progress);
        progress.passes += 1;
        progress.keys_seen = keys;
        progress.last_finished = Some(timestamp(now_ms()));
        Ok(keys)
    }

    pub(crate) fn audit_findings(&self) -> AuditFindings {
        locked(&self.audits).findings()
    }

    /// The largest keys that the last pass met.
    pub(crate) fn largest_keys(&self) -> Vec<Vec<u8>> {
        locked(&self.audits).largest().keys().map(<[u8]>::to_vec).collect()
    }

    pub(crate) fn orphans(&self) -> Vec<(BodyId, Body)> {
        locked(&self.audits).orphans()
    }

    pub(crate) fn settle(&self, bodies: &[BodyId]) {
        let mut audits = locked(&self.audits);
        bodies.iter().for_each(|body| audits.settle(body));
    }

    /// Whether the last evaluation found this class, suspect or confirmed.
    pub(crate) fn holds(&self, class: VerdictClass) -> bool {
        locked(&self.state).evaluation.as_ref().is_some_and(|evaluation| evaluation.verdict(class).is_some())
    }

    pub(crate) fn count(&self, error: &HygieneError) {
        ERRORS.with_label_values(&[error.category()]).inc();
        tracing::debug!(error = error.chain(), "look at the engine");
    }
}
