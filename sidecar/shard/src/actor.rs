//! The actor: the only owner of the machine. It feeds events, publishes what changed, and starts the effects.

use std::{collections::VecDeque, sync::Arc, sync::PoisonError, time::Duration};

use blobstore_sidecar_api::{boot::LauncherSays, config::Persistence, record::Member, topology::EngineExit};
use blobstore_sidecar_core::shard::{
    Command, Effect, EngineFacts, Event, Machine, Outcome, Round, Seen, band,
};
use blobstore_sidecar_runtime::tasks;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    CasError, EngineState, PeerAnswer, PeerRequest, Register, RegisterError, ShardConfig, ShardHandle,
    Versioned, acker,
    actions::Actions,
    authority::ShardAuthority,
    boot,
    commander::{self, Order},
    handle::Ask,
    metrics,
    observe::{self, Observed},
    peer::PeerStatus,
    peers::Peers,
    register,
    shared::{Published, Shared},
};

/// Timers of the machine are coarse: a tick is a tenth of its shortest wait.
const TICK: Duration = Duration::from_millis(20);
/// Without a tick for so long, in milliseconds, the process did not run: twelve of them are missing.
const SLEPT: u64 = 250;
/// An API server that needs longer is away; the outcome is then unknown.
const SWAP_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries to read the record.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// Messages to the actor: each sender waits for its answer or sends a few a second.
const QUEUE: usize = 256;

/// What the loops tell the actor.
#[derive(Debug)]
pub(crate) enum Told {
    Event(Event),
    Engine(Option<Box<Observed>>),
    Round { round: Round, taken: oneshot::Sender<()> },
    Launcher(LauncherSays),
    Register(Result<Versioned, RegisterError>),
}

/// Somebody who waits for the hand-over.
pub(crate) struct Handing {
    pub(crate) answer: oneshot::Sender<()>,
    pub(crate) deadline: Instant,
    since: Instant,
}

pub(crate) struct Actor {
    pub(crate) machine: Machine,
    pub(crate) config: Arc<ShardConfig>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) register: Arc<dyn Register>,
    pub(crate) peers: Peers,
    pub(crate) told: mpsc::Sender<Told>,
    pub(crate) observed: Option<Box<Observed>>,
    pub(crate) last_exit: Option<EngineExit>,
    pub(crate) record_fresh: bool,
    pub(crate) actions: Actions,
    booted_with_data: bool,
    fed_at: u64,
    engine: watch::Sender<EngineState>,
    own: watch::Sender<Option<Member>>,
    stop: watch::Sender<bool>,
    orders: mpsc::Sender<Order>,
    handing: VecDeque<Handing>,
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("listen on the boot socket {path}")]
    BootSocket {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl ShardHandle {
    /// Starts the member: its loops run until the last handle is dropped.
    ///
    /// # Errors
    /// When the boot socket cannot be bound.
    pub fn start(config: ShardConfig, register: Arc<dyn Register>) -> Result<Self, StartError> {
        metrics::register();
        let config = Arc::new(config);
        let (asks, asked) = mpsc::channel(QUEUE);
        let (told, hears) = mpsc::channel(QUEUE);
        let (orders, ordered) = mpsc::channel(QUEUE);
        let timing = &config.config.timing;
        let shards = band(config.shard, config.config.shards);
        let shared =
            Arc::new(Shared::new(shards, config.peer_port, timing.read_window_ms, timing.ack_timeout_ms));
        let peers = Peers {
            token: config.peer_token.clone(),
            store_uid: config.config.store.uid.clone(),
            port: config.peer_port,
        };
        let (stop, stopped) = watch::channel(false);
        boot::listen(config.clone(), told.clone(), stopped).map_err(|source| StartError::BootSocket {
            path: config.boot_socket.display().to_string(),
            source,
        })?;
        let engine = watch::Sender::new(EngineState::Down);
        let own = watch::Sender::new(None);
        let handle =
            Self { asks, authority: Arc::new(ShardAuthority(shared.clone())), engine: engine.subscribe() };
        tasks::spawn("shard-engine", observe::engine_loop(config.clone(), shared.clone(), told.clone()));
        tasks::spawn(
            "shard-peer",
            observe::peer_loop(peers.clone(), shared.clone(), own.subscribe(), told.clone()),
        );
        tasks::spawn("shard-acks", acker::ack_loop(config.clone(), shared.clone(), told.clone()));
        tasks::spawn("shard-register", register::follow(register.clone(), told.clone()));
        tasks::spawn("shard-commands", commander::run(config.clone(), peers.clone(), ordered, told.clone()));
        let actor = Actor {
            machine: Machine::new(config.rules()),
            actions: Actions::default(),
            observed: None,
            last_exit: None,
            record_fresh: false,
            booted_with_data: false,
            fed_at: shared.now(),
            handing: VecDeque::new(),
            config,
            shared,
            register,
            peers,
            told,
            engine,
            own,
            stop,
            orders,
        };
        tasks::spawn("shard-actor", actor.run(asked, hears));
        Ok(handle)
    }
}

impl Actor {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, mut hears: mpsc::Receiver<Told>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => self.asked(ask),
                    None => break,
                },
                Some(told) = hears.recv() => self.told(told),
                _ = ticks.tick() => self.feed(Event::Tick),
            }
            self.finish_handing();
        }
        hears.close();
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let now = self.shared.now();
        let before = std::mem::replace(&mut self.fed_at, now);
        if now > before + SLEPT {
            tracing::warn!(milliseconds = now - before, "this process did not run for a while");
            metrics::PAUSES.inc();
            self.step(Event::Woke, now);
        }
        self.step(event, now);
    }

    /// One step of the machine, made visible before its effects start.
    fn step(&mut self, event: Event, now: u64) {
        let effects = self.machine.step(event, now);
        self.publish();
        for effect in effects {
            self.start(effect);
        }
    }

    fn publish(&self) {
        let machine = &self.machine;
        let record = machine.record().cloned();
        metrics::ROLE.set(i64::from(machine.snapshot().tenure.is_some()));
        if let Some(record) = &record {
            metrics::EPOCH.set(i64::try_from(record.epoch).unwrap_or(i64::MAX));
            metrics::IN_SYNC.set(i64::try_from(record.in_sync.len()).unwrap_or(i64::MAX));
        }
        self.shared.publish(Published {
            snapshot: machine.snapshot().clone(),
            record,
            reigning: machine.wants_rounds(),
            hurried: machine.hurried() || !self.handing.is_empty(),
            named: machine.named(),
            in_sync: machine.in_sync(),
            link_up: machine.engine().is_some_and(|engine| engine.link_up),
        });
    }

    fn start(&mut self, effect: Effect) {
        match effect {
            Effect::Swap { id, expected, record } => {
                tracing::info!(
                    epoch = record.epoch,
                    members = record.in_sync.len(),
                    "write the shard record"
                );
                let (register, told) = (self.register.clone(), self.told.clone());
                tasks::spawn("shard-swap", async move {
                    let outcome = match timeout(SWAP_WITHIN, register.cas(expected, record)).await {
                        Ok(Ok(version)) => Outcome::Swapped(version),
                        Ok(Err(CasError::Conflict)) => Outcome::Conflict,
                        Ok(Err(CasError::Unknown(_))) | Err(_) => Outcome::Unknown,
                    };
                    metrics::written(outcome);
                    drop(told.send(Told::Event(Event::Swap { id, outcome })).await);
                });
            }
            Effect::Read { id } => self.read(id),
            Effect::Command { id, command } => self.order(id, command),
            Effect::Acknowledged { upto } => self.shared.acknowledge(upto),
            Effect::Nudge { to, relinquished } => {
                let peers = self.peers.clone();
                tasks::spawn("shard-nudge", async move {
                    let request =
                        PeerRequest::Promote { relinquished, reason: "the owner gave up".to_owned() };
                    if let Err(error) = peers.ask(&to.ip, &request).await {
                        tracing::warn!(%error, pod = to.pod, "ask to take over");
                    }
                });
            }
            Effect::Granted { epoch, why } => {
                tracing::info!(epoch, reason = why.label(), "this pod serves the shard");
                metrics::FAILOVERS.with_label_values(&[why.label()]).inc();
            }
        }
    }

    fn read(&self, id: u64) {
        let (register, told) = (self.register.clone(), self.told.clone());
        tasks::spawn("shard-read", async move {
            while !told.is_closed() {
                if let Ok(Ok(Versioned { version, record })) = timeout(SWAP_WITHIN, register.read()).await {
                    let seen = Seen { version, record };
                    drop(told.send(Told::Event(Event::Record { seen, read: Some(id) })).await);
                    return;
                }
                sleep(READ_AGAIN).await;
            }
        });
    }

    fn order(&self, id: u64, command: Command) {
        let engine = self.observed.as_ref().map(|observed| observed.engine.clone());
        let order = Order::new(id, command, engine, !self.machine.in_sync(), &self.config);
        if self.orders.try_send(order).is_err() {
            tracing::error!("the engine's command queue is full");
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Event(event) => self.feed(event),
            Told::Round { round, taken } => {
                self.feed(Event::Round(round));
                // The ack loop is gone only when everything ends.
                let _gone = taken.send(());
            }
            Told::Register(Ok(Versioned { version, record })) => {
                self.record_fresh = true;
                self.feed(Event::Record { seen: Seen { version, record }, read: None });
            }
            Told::Register(Err(error)) => {
                metrics::WATCH_ERRORS.inc();
                if self.record_fresh {
                    tracing::warn!(%error, "the shard record cannot be watched");
                }
                self.record_fresh = false;
            }
            Told::Engine(observed) => self.engine_seen(observed),
            Told::Launcher(said) => self.launcher_said(said),
        }
    }

    fn engine_seen(&mut self, observed: Option<Box<Observed>>) {
        let persistent = self.config.config.persistence == Persistence::Aof;
        let facts = observed.as_ref().map(|observed| EngineFacts {
            member: observed.view.member.clone(),
            loading: observed.view.loading,
            has_data: observed.view.keys > 0 || persistent && self.booted_with_data,
            link_up: observed.view.replication_link_up,
            follows: observed.follows.clone(),
            slotless: observed.view.is_primary && observed.view.slots.is_empty(),
        });
        if let Some(observed) = &observed {
            let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
            slots.clone_from(&observed.primary_nodes);
        }
        let up = facts.as_ref().filter(|facts| !facts.loading);
        let state = up.map_or(EngineState::Down, |facts| EngineState::Up {
            run_id: facts.member.run_id.as_str().into(),
        });
        self.observed = observed;
        // A node id is not known while the engine loads.
        self.own.send_replace(up.map(|facts| facts.member.clone()));
        self.feed(Event::Engine(facts));
        self.engine.send_if_modified(|old| (*old != state).then(|| *old = state).is_some());
    }

    fn launcher_said(&mut self, said: LauncherSays) {
        match said {
            LauncherSays::Boot { has_data, engine_version } => {
                tracing::info!(has_data, ?engine_version, "the launcher is here");
                self.booted_with_data = has_data;
            }
            LauncherSays::Started { pid } => tracing::info!(pid, "the engine was started"),
            LauncherSays::Terminating => {
                let (answer, _) = oneshot::channel();
                self.hand_over(answer, TERMINATING_WITHIN);
            }
            LauncherSays::Exited { code, signal, oom_killed, last_lines } => {
                tracing::warn!(?code, ?signal, oom_killed, "the engine ended");
                self.last_exit = Some(EngineExit { code, signal, oom_killed, last_lines });
                self.engine_seen(None);
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Topology(answer) => drop(answer.send(self.topology())),
            Ask::Act { name, request, answer } => self.act(&name, request, answer),
            Ask::Peer { request, answer } => drop(answer.send(self.peer(request))),
            Ask::Identity { nonce, answer } => drop(answer.send(self.identity(&nonce))),
            Ask::HandOver { deadline, answer } => self.hand_over(answer, deadline),
        }
    }

    fn peer(&mut self, request: PeerRequest) -> PeerAnswer {
        match request {
            PeerRequest::Status => PeerAnswer::Status(PeerStatus {
                pod: self.config.pod.clone(),
                run_id: self.machine.engine().map(|engine| engine.member.run_id.clone()),
                epoch: self.machine.record().map_or(0, |record| record.epoch),
                serving: self.machine.snapshot().tenure,
                relinquished: self.machine.announced(self.shared.now()),
            }),
            PeerRequest::Join { member } => {
                self.feed(Event::Join(member));
                PeerAnswer::Accepted
            }
            PeerRequest::Promote { relinquished, reason } => {
                if !self.machine.in_sync() {
                    return PeerAnswer::Refused { message: "not in the in-sync set".to_owned() };
                }
                tracing::info!(relinquished, reason, "asked to take over");
                self.feed(Event::Promote { relinquished: Some(relinquished) });
                PeerAnswer::Accepted
            }
        }
    }

    /// Before the pod stops: serve no more, wait for a successor if there can be one.
    fn hand_over(&mut self, answer: oneshot::Sender<()>, within: Duration) {
        self.feed(Event::HandOver { leaving: true, to: None });
        let now = Instant::now();
        self.handing.push_back(Handing { answer, deadline: now + within, since: now });
    }

    fn finish_handing(&mut self) {
        let now = Instant::now();
        let machine = &self.machine;
        let done = !machine.named() && (machine.handed_over() || machine.relinquished().is_none())
            || machine.named() && machine.successors() == 0;
        let over = machine.handed_over();
        let (ended, waiting) =
            self.handing.drain(..).partition(|handing: &Handing| done || now >= handing.deadline);
        self.handing = waiting;
        let ended: VecDeque<Handing> = ended;
        for handing in ended {
            if over {
                metrics::HAND_OVER.observe(handing.since.elapsed().as_secs_f64());
            }
            self.stop.send_replace(true);
            // The preStop caller may have been cancelled; the engine may end all the same.
            let _cancelled = handing.answer.send(());
        }
    }
}

/// The launcher gives up waiting by itself shortly before its grace period ends; this only bounds the queue.
const TERMINATING_WITHIN: Duration = Duration::from_secs(300);
