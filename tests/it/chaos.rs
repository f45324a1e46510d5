//! Seeded chaos: one to three instances are killed, frozen, ended and started while events come in, the broker dies
//! and the model fails, and then every account must balance.
//!
//! The seed decides which faults come in which order to whom and when; what the processes are doing at that moment it
//! can't decide. A failure prints the seed, the schedule, the story of every event with a violation, and where the logs
//! of all lives lie.
//!
//! ```text
//! WEIR_CHAOS_SEED=7 cargo test --test it chaos::short -- --nocapture
//! ```
//!
//! The long form has a broker of its own, which is killed and stopped as well, and says where it is at every fault.
//! 300 faults over 20,000 events take about 30 minutes:
//!
//! ```text
//! WEIR_CHAOS_FAULTS=300 WEIR_CHAOS_EVENTS=20000 WEIR_CHAOS_SEED=7 cargo test --test it chaos::short -- --nocapture
//! ```
//!
//! A broker that is away for a minute, stopped and killed, under load:
//!
//! ```text
//! WEIR_CHAOS_AWAY=60 cargo test --test it chaos::a_broker -- --nocapture
//! ```
//!
//! `WEIR_CHAOS_BROKER=own|shared` says otherwise. `WEIR_CHAOS_SET` sets variables of the instances:
//! `WORKFLOW_ORDERING=key` also checks the order of each key, `KAFKA_GROUP_PROTOCOL=consumer` has the broker assign
//! the partitions, and these two are controls that must fail:
//!
//! ```text
//! WEIR_CHAOS_SET="DELIVERY_GUARANTEE=at_least_once" cargo test --test it chaos::short -- --nocapture
//! WEIR_CHAOS_SET="WORKFLOW_DURABILITY=off WORKFLOW_RESULT_MIN_AGE=5s" cargo test --test it chaos::short -- --nocapture
//! ```

#![expect(clippy::print_stderr, reason = "a run is only worth something with its seed and figures")]

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::support::counting_model::CountingModel;
use crate::support::kafka::{OWN_BROKER, World, try_seen};
use crate::support::ledger::{Audit, Evidence, Kind, answered, audit};
use crate::support::own_broker::OwnBroker;
use crate::support::process::Environment;

#[path = "chaos/feed.rs"]
mod feed;
#[path = "chaos/fleet.rs"]
mod fleet;

use feed::{PARTITIONS, feed, latency};
use fleet::{BROKER_DECK, DECK, Dice, Fault, Fleet, KILLS};

/// How long events may take to be answered after the last fault. After half of it an operator looks at the broker.
const SETTLING: Duration = Duration::from_mins(4);

/// How often it is looked whether all are answered.
const LOOK: Duration = Duration::from_secs(2);

/// What is done, and to how much.
struct Plan {
    seed: u64,
    faults: usize,
    events: usize,
    deck: Vec<Fault>,
    /// Milliseconds between two faults.
    pauses: (u64, u64),
    has_own_broker: bool,
    /// What the instances are set to, beyond the usual.
    settings: Vec<(String, String)>,
}

/// What came of it.
struct Report {
    audit: Audit,
    missing: usize,
    schedule: Vec<String>,
    logs: Vec<(usize, String)>,
    /// What the broker did wrong, and what an operator had to do: it ended transactions without writing their markers, or
    /// waited for dead members.
    broker_faults: Vec<String>,
}

impl Plan {
    fn of_the_environment() -> Self {
        let number = |name: &str, default| {
            usize::try_from(setting(name).map_or(default, |text| text.parse().unwrap())).unwrap()
        };
        let faults = number("WEIR_CHAOS_FAULTS", 27);
        let has_own_broker = match setting("WEIR_CHAOS_BROKER").as_deref() {
            None => faults >= 100,
            Some("own") => true,
            Some("shared") => false,
            Some(other) => panic!("WEIR_CHAOS_BROKER={other}: own or shared"),
        };
        let mut deck = DECK.to_vec();
        if has_own_broker {
            deck.extend(BROKER_DECK);
        }
        let settings = setting("WEIR_CHAOS_SET").unwrap_or_default();
        let pairs = settings.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        Self {
            seed: setting("WEIR_CHAOS_SEED").map_or(20_261_124, |text| text.parse().unwrap()),
            faults,
            events: number("WEIR_CHAOS_EVENTS", 1500),
            deck,
            pauses: (500, 3000),
            has_own_broker,
            settings: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    fn sets(&self, name: &str, value: &str) -> bool {
        self.settings.iter().any(|(known, set)| known == name && set == value)
    }

    async fn run(self) -> Report {
        let Self { seed, faults, events, .. } = self;
        eprintln!(
            "WEIR_CHAOS_SEED={seed} WEIR_CHAOS_FAULTS={faults} WEIR_CHAOS_EVENTS={events} {:?}",
            self.settings
        );
        if self.has_own_broker {
            let broker = OwnBroker::start("chaos").await;
            let address = broker.address().to_owned();
            OWN_BROKER.scope(address, self.run_on(Some(broker))).await
        } else {
            self.run_on(None).await
        }
    }

    async fn run_on(self, broker: Option<OwnBroker>) -> Report {
        let model = CountingModel::start(latency).await;
        let world = World::new("chaos", i32::try_from(PARTITIONS).unwrap()).await;
        let mut environment = Environment::of(&world)
            .set("OLLAMA_BASE_URL", &model.url)
            .set("SHUTDOWN_GRACE", "2s")
            .set("WORKFLOW_RETRY_MAX", "5s")
            // Young results wait, and their answers are in the journal meanwhile; those of a backlog need none.
            .set("WORKFLOW_RESULT_MIN_AGE", "3s");
        for (name, value) in &self.settings {
            environment = environment.set(name, value);
        }
        // An owner hears of a newcomer with its next heartbeat, and then its runs have their grace.
        let broker_assigns = self.sets("KAFKA_GROUP_PROTOCOL", "consumer");
        let heartbeat = Duration::from_millis(if broker_assigns { 5000 } else { 1500 });
        let mut fleet = Fleet::new(environment, model, broker, heartbeat + Duration::from_secs(3));
        fleet.start(0);

        let (progress, faults_done) = watch::channel(0);
        let (ids, schedule) =
            tokio::join!(feed(&world, self.events, faults_done), self.throw(&mut fleet, progress));
        let missing = until_answered(&world, &ids, &mut fleet).await;
        fleet.end_all().await;
        until_stable(&world, &mut fleet).await;

        let evidence = Evidence {
            asked: fleet.model.asked(),
            disturbances: std::mem::take(&mut fleet.disturbances),
            is_ordered_by_key: self.sets("WORKFLOW_ORDERING", "key"),
        };
        let mut audit = audit(&world, &evidence);
        for bad in fleet.bad_ends {
            audit.violate(Kind::End, bad);
        }
        let mut broker_faults =
            fleet.broker.as_ref().map(OwnBroker::lost_markers).unwrap_or_default();
        broker_faults.append(&mut fleet.mended);
        Report { audit, missing, schedule, logs: fleet.logs, broker_faults }
    }

    /// Throws faults; returns what was done when the last one is over.
    async fn throw(&self, fleet: &mut Fleet, progress: watch::Sender<usize>) -> Vec<String> {
        let began = Instant::now();
        let mut dice = Dice(self.seed);
        let mut deck = Vec::new();
        let mut schedule = Vec::new();
        for number in 1..=self.faults {
            progress.send_replace(number * 1000 / self.faults);
            if deck.is_empty() {
                deck.clone_from(&self.deck);
            }
            let fault = deck.swap_remove(dice.below(deck.len()));
            fleet.pass(dice.millis(self.pauses.0..=self.pauses.1)).await;
            let at = began.elapsed().as_secs_f64();
            let line =
                format!("{at:6.1} s  fault {number}: {fault:?}, running {:?}", fleet.places(true));
            eprintln!("{line}");
            schedule.push(line);
            fleet.suffer(fault, &mut dice).await;
        }
        fleet.thaw_all().await;
        progress.send_replace(1000);
        schedule
    }
}

impl Report {
    fn print(&self) {
        let (lives, faults) = (self.logs.len(), self.schedule.len());
        eprintln!(
            "{faults} faults, {lives} lives, {} unanswered in time: {:#?}",
            self.missing, self.audit.figures
        );
        eprintln!("violations: {:?}", self.audit.counts());
        for line in &self.broker_faults {
            eprintln!("the broker: {line}");
        }
    }

    /// Fails, and says all that is known, unless every account balances.
    fn settle(self, seed: u64) {
        self.print();
        let Self { audit, missing, schedule, logs, broker_faults } = self;
        if missing == 0 && audit.violations.is_empty() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("weir-chaos-{seed}"));
        std::fs::create_dir_all(&dir).unwrap();
        for (life, (place, log)) in logs.iter().enumerate() {
            std::fs::write(dir.join(format!("{life:03}-place-{place}.log")), log).unwrap();
        }
        std::fs::write(dir.join("schedule"), schedule.join("\n")).unwrap();
        let stories: String = audit.stories.values().map(|story| format!("{story}\n")).collect();
        std::fs::write(dir.join("stories"), &stories).unwrap();
        let told = audit.violations.iter().map(|it| format!("\n  {:?}: {}", it.kind, it.told));
        let stories = audit.stories.values().take(20).map(|story| format!("\n  {story}"));
        panic!(
            "seed {seed}: {missing} unanswered in time, violations {:?}, faults of the broker {}; schedule, \
             stories and logs in {}:{}\nwhat happened to them:{}",
            audit.counts(),
            broker_faults.len(),
            dir.display(),
            told.take(50).collect::<String>(),
            stories.collect::<String>(),
        );
    }
}

/// Reads a variable of this runner.
fn setting(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.into_string().unwrap())
}

/// Waits until all are answered, and returns how many are not.
async fn until_answered(world: &World, ids: &BTreeSet<String>, fleet: &mut Fleet) -> usize {
    let deadline = Instant::now() + SETTLING;
    let mut by_hand_at = Instant::now() + SETTLING / 2;
    loop {
        fleet.supervise();
        let missing = match answered(world) {
            Ok(answered) => ids.difference(&answered).count(),
            Err(unstable) => {
                eprintln!("{unstable}");
                ids.len()
            }
        };
        if missing == 0 || Instant::now() > deadline {
            return missing;
        }
        if Instant::now() > by_hand_at {
            fleet.end_hanging().await;
            by_hand_at = deadline;
        }
        eprintln!("{missing} of {} to be answered, running {:?}", ids.len(), fleet.places(true));
        sleep(LOOK).await;
    }
}

/// Waits until no transaction is open in what weir has written.
async fn until_stable(world: &World, fleet: &mut Fleet) {
    let config = &world.config;
    for topic in [&config.workflow_results_topic, &config.dlq_topic, &config.journal_topic] {
        if let Err(unstable) = try_seen(topic) {
            eprintln!("{unstable}");
            fleet.end_hanging().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn short_chaos_loses_nothing_and_repeats_nothing() {
    let plan = Plan::of_the_environment();
    let seed = plan.seed;

    plan.run().await.settle(seed);
}

/// Away for longer than a transaction may last; `WEIR_CHAOS_AWAY` says for how many seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_ends_nobody_and_costs_nothing() {
    let away = setting("WEIR_CHAOS_AWAY").map_or(12, |text| text.parse().unwrap());
    let away = Duration::from_secs(away);
    let plan = Plan {
        seed: 1,
        faults: 4,
        events: 800,
        // Each is dealt once: twice in the middle of commits, twice for long.
        deck: vec![
            Fault::BrokerStopped(away),
            Fault::BrokerDown(away),
            Fault::BrokerPause,
            Fault::BrokerKill,
        ],
        pauses: (2000, 4000),
        has_own_broker: true,
        settings: Vec::new(),
    };

    let report = plan.run().await;

    assert_eq!(report.logs.len(), 1, "it ended");
    report.settle(1);
}

/// The control of "asked again": what is not journaled is asked for again, and the audit says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_answers_that_are_not_journaled_are_asked_for_again() {
    let settings = [
        ("WORKFLOW_DURABILITY", "off"),
        // Answered runs are still waiting for this when the next kill comes; and a restart does not wait for a session.
        ("WORKFLOW_RESULT_MIN_AGE", "8s"),
        ("KAFKA_STATIC_MEMBERSHIP", "true"),
    ];
    let plan = Plan {
        seed: 1,
        faults: 4,
        events: 200,
        deck: KILLS.to_vec(),
        pauses: (5500, 6500),
        has_own_broker: false,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    };

    let report = plan.run().await;

    report.print();
    let counts = report.audit.counts();
    assert_eq!(report.missing, 0);
    assert!(counts.get(&Kind::Repeated).is_some_and(|repeated| *repeated > 0), "{counts:?}");
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [Kind::Repeated], "{counts:?}");
}
