//! A scripted story: topics of its own, a model that counts, the program dying where the script says.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use weir::failpoint::{Mechanism, Point};

use super::counting_model::CountingModel;
use super::kafka::{PATIENCE, World, produce_all};
use super::ledger::{Audit, Evidence, answered, audit};
use super::process::{Environment, Weir};

/// One story's world.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) model: CountingModel,
    /// What every instance gets.
    pub(crate) environment: Environment,
    began: Instant,
    ids: BTreeSet<String>,
    logs: Vec<String>,
}

impl Scene {
    /// Sets a scene of `partitions` partitions, with a model that takes up to `latency_max`.
    ///
    /// Members are static: who comes back under its name has its partitions at once.
    pub(crate) async fn new(name: &str, partitions: i32, latency_max: Duration) -> Self {
        let world = World::new(name, partitions).await;
        // Spread over the whole range, and different for each answer.
        let latency =
            move |number: u64| latency_max * u32::try_from(number * 37 % 100).unwrap() / 99;
        let model = CountingModel::start(latency).await;
        let environment = Environment::of(&world)
            .set("OLLAMA_BASE_URL", &model.url)
            .set("KAFKA_STATIC_MEMBERSHIP", "true")
            .set("KAFKA_CONSUMER_PROP_HEARTBEAT_INTERVAL_MS", "500")
            .set("SHUTDOWN_GRACE", "5s");
        Self {
            world,
            model,
            environment,
            began: Instant::now(),
            ids: BTreeSet::new(),
            logs: Vec::new(),
        }
    }

    /// Leaves a mechanism out of every instance, if there is one to leave out.
    pub(crate) fn without(mut self, off: Option<Mechanism>) -> Self {
        if let Some(off) = off {
            self.environment = self.environment.set("WEIR_BREAK", off.name());
        }
        self
    }

    /// Publishes an event for each task; text that begins with a brace goes as it is, and is none.
    pub(crate) async fn publish(&mut self, partition: i32, tasks: impl IntoIterator<Item = Value>) {
        let mut values = Vec::new();
        for task in tasks {
            if let Some(text) = task.as_str().filter(|text| text.starts_with('{')) {
                values.push(text.to_owned());
                continue;
            }
            let id = Uuid::new_v4().to_string();
            let event = json!({
                "event_id": id, "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
                "workflow_run_id": "r", "payload": {"data": {"task": task}}, "metadata": {"environment": "dev"},
            });
            self.ids.insert(id);
            values.push(event.to_string());
        }
        produce_all(self.world.events(), partition, values).await;
    }

    /// Starts an instance that lives as long as it is let.
    pub(crate) fn start(&self, instance: &str) -> Weir {
        self.environment.clone().set("INSTANCE_ID", instance).start()
    }

    /// Starts an instance with a trap, such as `commit.done:2` or `commit.done=fail`.
    pub(crate) fn start_trapped(&self, instance: &str, trap: &str) -> Weir {
        let environment = self.environment.clone().set("INSTANCE_ID", instance);
        environment.set("WEIR_FAILPOINT", trap).start()
    }

    /// Lets the time before this moment count as quiet: what was answered long before must be committed.
    pub(crate) fn was_quiet(&mut self) {
        self.began = Instant::now();
    }

    /// Waits until an instance has died at a point, and nowhere else.
    pub(crate) async fn dies(&mut self, mut weir: Weir, point: Point) {
        let signal = weir.died().await;
        let log = weir.log();
        let there = log.contains(&format!("failpoint {}\n", point.name()));
        assert!(signal == Some(SIGABRT) && there, "{}: {signal:?}\n{log}", point.name());
        self.logs.push(log);
    }

    /// Waits until every event has a result.
    pub(crate) async fn answered(&self, instances: &[Weir]) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ids.is_subset(&answered(&self.world).unwrap()) {
            let logs = || self.logs.iter().cloned().chain(instances.iter().map(Weir::log));
            let late = Instant::now() > deadline;
            assert!(!late, "not answered in time\n{}", logs().collect::<Vec<_>>().join("\n\n"));
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for all answers, ends the instances as an operator does, and holds the accounts against each other.
    pub(crate) async fn balance<const N: usize>(mut self, instances: [Weir; N]) -> Audit {
        self.answered(&instances).await;
        for mut weir in instances {
            weir.signal("TERM").await;
            let (code, _) = weir.ended().await;
            assert_eq!(code, Some(0), "{}", weir.log());
            self.logs.push(weir.log());
        }
        // Something was going on all the time, unless it was said otherwise: only what is committed counts.
        let evidence = Evidence {
            asked: self.model.asked(),
            disturbances: vec![self.began..Instant::now()],
            is_ordered_by_key: false,
        };
        audit(&self.world, &evidence)
    }
}

/// What `abort` ends a process with.
const SIGABRT: i32 = 6;
