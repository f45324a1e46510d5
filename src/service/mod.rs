//! Builds the rooms back to front, runs them, and drains them. The only room that knows all others.
//!
//! Everything that outlives a call is spawned on one tracker, which is waited for before the process ends.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::dispatch::driver::Published;
use crate::dispatch::machine::Settings;
use crate::dispatch::{DeliveryGuarantee, Driver, End, Parts};
use crate::graph::BuildError;
use crate::kafka::{self, Identity, IdentityError, Member, Reporter};
use crate::llm::{self, Availability, ChatModel, Client, Reachability};
use crate::shutdown::Shutdown;
use crate::sink::{self, Guarantee, KafkaPublisher, Size, Stability, Topic, TopicsError};
use crate::source::{self, Source};
use crate::standing::Standing;
use crate::telemetry::{Health, Metrics};
use crate::workflow::{Press, Recorder, Runner, Watch, agents_graph};
use crate::{admin, systemd};

mod observe;

use observe::observe;

/// How many effects may wait for the dispatch: it takes all that are there at each turn.
const REQUESTS_MAX: usize = 1024;

/// How long the tasks around the core may take to end after it.
const TASKS_END: Duration = Duration::from_secs(3);

/// weir, before it runs.
pub struct Service {
    config: Config,
    metrics: Metrics,
    health: Health,
    model: Option<Arc<dyn ChatModel>>,
    watch: Option<Watch>,
}

/// Why weir can't run, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's HTTP server can't listen.
    #[error(transparent)]
    Http(#[from] admin::Error),
    /// The model's client can't be made.
    #[error(transparent)]
    Llm(#[from] llm::SetupError),
    /// The graph is not sound.
    #[error("build the graph")]
    Graph(#[from] BuildError),
    /// No name for this instance.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Kafka client can't be made.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// The topics are not fit.
    #[error(transparent)]
    Topics(#[from] TopicsError),
    /// The producer had to end.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// The consumer had to end.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A task of the core panicked.
    #[error("a task of the core ended badly: {0}")]
    Core(String),
}

/// What the core is built from, once Kafka is there.
struct Ground {
    identity: Identity,
    reporter: Reporter,
    member: Member,
    publisher: KafkaPublisher,
    press: Arc<Press>,
}

impl Service {
    /// Returns a service with this configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (metrics, health) = (Metrics::new(&kafka::client_version()), Health::default());
        Self { config, metrics, health, model: None, watch: None }
    }

    /// Asks `model` instead of the configured one.
    #[must_use]
    pub fn with_model(self, model: Arc<dyn ChatModel>) -> Self {
        Self { model: Some(model), ..self }
    }

    /// Lets the observers that `watch` makes see every step of every attempt.
    #[must_use]
    pub fn with_watch(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Returns the handle to the service's figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the handle to the service's health.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Runs until `shutdown` has drained it.
    ///
    /// # Errors
    /// [`Error`], for what waiting does not heal.
    pub async fn run(self, shutdown: Shutdown) -> Result<End, Error> {
        let tracker = TaskTracker::new();
        let ended = CancellationToken::new();
        let result = self.run_on(&tracker, &ended, shutdown).await;
        ended.cancel();
        tracker.close();
        if timeout(TASKS_END, tracker.wait()).await.is_err() {
            warn!("some tasks did not end in time");
        }
        result
    }

    async fn run_on(
        mut self,
        tracker: &TaskTracker,
        ended: &CancellationToken,
        shutdown: Shutdown,
    ) -> Result<End, Error> {
        let results = admin::Results::default();
        self.open_doors(tracker, ended, &results).await?;
        // A heartbeat goes out in every third of the session: the last one may be as old as that.
        let standing = Standing::new(self.config.kafka.session_timeout * 2 / 3);
        let model = self.model(tracker, ended, &standing)?;
        let graph = agents_graph(model)?;
        let Some(ground) = self.find_ground(&shutdown.drain).await? else {
            info!("ended before Kafka was ready; nothing had been read");
            return Ok(End::Drained);
        };
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let workflow = &self.config.workflow;
        let recorder = Recorder::new(requests, workflow.durability)
            .of_group(&self.config.kafka.consumer_group_id);
        let runner = Runner::new(
            graph,
            workflow.clone(),
            self.model_name().to_owned(),
            recorder,
            (Arc::clone(&ground.press), self.metrics.clone()),
        )
        .with_watch(self.watch.take());
        let Ground { identity, reporter, member, publisher, press } = ground;
        let (source, events) = Source::start(member, self.source(identity, reporter, tracker))?;
        let parts = Parts {
            settings: self.settings(),
            result_min_age: self.config.dispatch.result_min_age,
            event_ttl: self.config.dispatch.event_ttl,
            revoke_grace: self.config.kafka.revoke_grace,
            standing,
            shutdown_grace: self.config.service.shutdown_grace,
            publisher,
            runner: Arc::new(runner),
            press,
            events,
            requests: requested,
            published: keep(results),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            shutdown,
        };
        let nonce = RandomState::new().hash_one(std::process::id());
        let driver = Driver::new(parts, u32::try_from(nonce >> 32).unwrap_or_default());
        let mut driving = tracker.spawn(driver.run());
        let end = tokio::select! {
            end = &mut driving => match end {
                Ok(end) => end.map_err(Error::from),
                Err(panicked) => Err(Error::Core(panicked.to_string())),
            },
            failed = source.failed() => {
                // Nothing could be committed any more: no run is to ask a model now.
                driving.abort();
                driving.await.ok();
                Err(failed.into())
            }
        };
        source.stop().await;
        end
    }

    /// Opens what the operator and the init system look at, before anything can take long.
    async fn open_doors(
        &self,
        tracker: &TaskTracker,
        ended: &CancellationToken,
        results: &admin::Results,
    ) -> Result<(), Error> {
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        if let Some(addr) = self.config.admin.addr {
            self.listen(addr, tracker, ended, results).await?;
        }
        tracker.spawn(systemd::notify(health, metrics, ended.clone().cancelled_owned()));
        Ok(())
    }

    async fn listen(
        &self,
        addr: SocketAddr,
        tracker: &TaskTracker,
        ended: &CancellationToken,
        results: &admin::Results,
    ) -> Result<(), Error> {
        let listener = admin::bind(addr).await?;
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let site = admin::Site { health, metrics, results: results.clone() };
        let ended = ended.clone().cancelled_owned();
        tracker.spawn(async move {
            if let Err(error) = admin::serve(listener, site, ended).await {
                error!(%error, "the HTTP server ended");
            }
        });
        Ok(())
    }

    /// Makes the model's client and keeps an eye on its endpoint.
    fn model(
        &self,
        tracker: &TaskTracker,
        ended: &CancellationToken,
        standing: &Standing,
    ) -> Result<Arc<dyn ChatModel>, Error> {
        let component = self.health.component("llm");
        if let Some(model) = &self.model {
            component.ready();
            return Ok(Arc::clone(model));
        }
        let metrics = self.metrics.clone();
        let client = Client::new(&self.config.llm, Arc::new(move |seen| observe(&metrics, seen)))?;
        let client = client.with_standing(standing.clone());
        for view in client.endpoints() {
            self.metrics.llm_model(view.provider().as_str(), view.model());
            info!(endpoint = %view.endpoint(), model = %view.model(), "may ask this model");
        }
        let mut missing = None;
        tracker.spawn(client.watch(ended.clone(), move |state| {
            let now_missing = match state {
                Reachability::Ready | Reachability::Waiting(_) => None,
                Reachability::Partly(ref reason) => Some(reason.clone()),
            };
            if now_missing != missing {
                match &now_missing {
                    Some(reason) => warn!(reason, "some endpoints do not answer"),
                    None => info!("no endpoint is missing among those that answer"),
                }
                missing = now_missing;
            }
            match state {
                Reachability::Ready | Reachability::Partly(_) => component.ready(),
                Reachability::Waiting(reason) => component.waiting(reason),
            }
        }));
        let component = self.health.component("model");
        tracker.spawn(client.care(ended.clone(), move |state| match state {
            Availability::Ready => component.ready(),
            Availability::Pulling(progress) => component.progress(progress),
            Availability::Missing(reason) => component.waiting(reason),
        }));
        Ok(Arc::new(client))
    }

    fn model_name(&self) -> &str {
        match self.config.llm.provider {
            llm::Provider::Ollama => &self.config.llm.ollama.model,
            llm::Provider::OpenAi => &self.config.llm.openai.model,
        }
    }

    /// Waits for Kafka, and initialises the producer before the group is joined. `None` when `stop` came first.
    async fn find_ground(&self, stop: &CancellationToken) -> Result<Option<Ground>, Error> {
        let config = &self.config.kafka;
        let identity = match &self.config.service.instance_id {
            Some(instance) => Identity::named(&config.consumer_group_id, instance),
            None => Identity::of_this_host(&config.consumer_group_id)?,
        };
        info!(instance = identity.instance(), group = config.consumer_group_id, "this instance");
        let reporter = Reporter::new(&config.bootstrap_servers, self.health.component("kafka"));
        self.health.component("group").waiting("not joined yet");
        let topics = match sink::prepare(config, &identity, &reporter, stop).await {
            Ok(topics) => topics,
            Err(TopicsError::Stopped) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let member = Member::create(config, &identity, &reporter, &self.metrics)?;
        let setup = sink::Setup {
            config: config.clone(),
            identity: identity.clone(),
            reporter: reporter.clone(),
            membership: member.membership(),
            guarantee: match self.config.dispatch.delivery_guarantee {
                DeliveryGuarantee::ExactlyOnce => Guarantee::ExactlyOnce,
                DeliveryGuarantee::AtLeastOnce => Guarantee::AtLeastOnce,
            },
            topics,
        };
        let publisher = match KafkaPublisher::start(setup, stop).await {
            Ok(publisher) => publisher,
            Err(sink::Error::Closed) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stability = Stability {
            config: config.clone(),
            identity: identity.clone(),
            reporter: reporter.clone(),
            health: self.health.component("transactions"),
            metrics: self.metrics.clone(),
        };
        stability.start(stop.clone());
        let press = Press::new(config.workflow_events_topic.clone(), publisher.limits());
        Ok(Some(Ground { identity, reporter, member, publisher, press: Arc::new(press) }))
    }

    fn source(
        &self,
        identity: Identity,
        reporter: Reporter,
        tracker: &TaskTracker,
    ) -> source::Setup {
        let dispatch = &self.config.dispatch;
        source::Setup {
            config: self.config.kafka.clone(),
            identity,
            reporter,
            journal_is_ahead: match dispatch.delivery_guarantee {
                DeliveryGuarantee::ExactlyOnce => false,
                DeliveryGuarantee::AtLeastOnce => true,
            },
            records_max: dispatch.max_unsettled,
            bytes_max: usize::try_from(dispatch.memory.as_u64()).unwrap_or(usize::MAX),
            group: self.health.component("group"),
            metrics: self.metrics.clone(),
            tracker: tracker.clone(),
        }
    }

    fn settings(&self) -> Settings {
        let (kafka, dispatch) = (&self.config.kafka, &self.config.dispatch);
        Settings {
            group: kafka.consumer_group_id.clone(),
            topic: kafka.workflow_events_topic.clone(),
            in_flight_max: dispatch.max_in_flight,
            ordering: dispatch.ordering,
            retry: dispatch.retry(),
            size: Size {
                records_max: kafka.transaction_max_records,
                bytes_max: usize::try_from(kafka.transaction_max_bytes.as_u64())
                    .unwrap_or(usize::MAX),
            },
            spacing: kafka.transaction_spacing,
            atomic: match dispatch.delivery_guarantee {
                DeliveryGuarantee::ExactlyOnce => true,
                DeliveryGuarantee::AtLeastOnce => false,
            },
            unsettled_max: dispatch.max_unsettled,
        }
    }
}

/// Keeps committed results for clients that would rather ask.
fn keep(results: admin::Results) -> Published {
    Box::new(move |records| {
        let told = records.iter().filter(|record| record.topic == Topic::Results);
        results.keep(told.filter_map(|record| Some((record.key.clone()?, record.value.clone()))));
    })
}
