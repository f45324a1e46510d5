//! The instances, the broker and the model, and what can be done to them.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::support::counting_model::{Ailment, CountingModel};
use crate::support::ledger::Disturbances;
use crate::support::own_broker::OwnBroker;
use crate::support::process::{Environment, Weir};

pub(super) const INSTANCES: usize = 3;

/// How long a broker that is back, or an instance that goes on, may need until all is as before: its members join
/// again, and a dead one's session ends.
const COMES_TO_ITSELF: Duration = Duration::from_secs(10);

/// What can go wrong. One deck; it is shuffled and dealt again and again, so that each kind has its share.
pub(super) const DECK: [Fault; 12] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Freeze,
    Fault::Freeze,
    Fault::Restart,
    Fault::Scale,
    Fault::Scale,
    Fault::Model(Ailment::Unavailable),
    Fault::Model(Ailment::Broken),
    Fault::Model(Ailment::Cut),
    Fault::Model(Ailment::Hang),
    Fault::Model(Ailment::Slow),
];

/// What more can go wrong where the broker is ours alone.
pub(super) const BROKER_DECK: [Fault; 3] = [Fault::BrokerKill, Fault::BrokerPause, Fault::Tide];

/// What goes wrong in a control: the sole instance dies.
pub(super) const KILLS: [Fault; 1] = [Fault::Kill];

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// SIGKILL, and a new life at once.
    Kill,
    /// SIGSTOP, and SIGCONT after 1 to 8 s: shorter and longer than the session lasts.
    Freeze,
    /// SIGTERM, and a new life after its end.
    Restart,
    /// One instance more or less.
    Scale,
    /// To one instance, to three, to one, to two.
    Tide,
    /// The model is unwell for 2 s.
    Model(Ailment),
    /// The broker is killed, and started again after up to 2 s.
    BrokerKill,
    /// The broker is stopped for 1 to 8 s.
    BrokerPause,
    /// The broker is stopped for as long.
    BrokerStopped(Duration),
    /// The broker is killed, and started again after so long.
    BrokerDown(Duration),
}

/// SplitMix64 (Steele, Lea, Flood 2014): a generator that needs no crate and is the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns an index below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }

    pub(super) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(range.start() + self.next() % (range.end() - range.start() + 1))
    }
}

/// All that suffers. A place keeps its `INSTANCE_ID` through all its lives.
pub(super) struct Fleet {
    environment: Environment,
    pub(super) model: CountingModel,
    pub(super) broker: Option<OwnBroker>,
    places: [Option<Weir>; INSTANCES],
    /// Since when a place is stopped, and until when.
    frozen: [Option<(Instant, Instant)>; INSTANCES],
    pub(super) disturbances: Disturbances,
    /// How long it may take until the owners of partitions have given them to a newcomer.
    gives_up: Duration,
    /// What was wrong with an end that should have been orderly.
    pub(super) bad_ends: Vec<String>,
    pub(super) logs: Vec<(usize, String)>,
    /// Transactions that hung, and were ended as an operator would; and instances that ended because a broker had undone a
    /// commit, and were started again.
    pub(super) mended: Vec<String>,
}

impl Fleet {
    pub(super) fn new(
        environment: Environment,
        model: CountingModel,
        broker: Option<OwnBroker>,
        gives_up: Duration,
    ) -> Self {
        Self {
            environment,
            model,
            broker,
            places: [const { None }; INSTANCES],
            frozen: [None; INSTANCES],
            disturbances: Vec::new(),
            gives_up,
            bad_ends: Vec::new(),
            logs: Vec::new(),
            mended: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, place: usize) {
        let name = format!("chaos-{place}");
        self.places[place] = Some(self.environment.clone().set("INSTANCE_ID", &name).start());
        let now = Instant::now();
        self.disturbed_since(now);
        if self.places(true).len() > 1 {
            self.disturbances.push(now..now + self.gives_up);
        }
    }

    /// Returns the places that are taken, or those that are not.
    pub(super) fn places(&self, taken: bool) -> Vec<usize> {
        (0..INSTANCES).filter(|place| self.places[*place].is_some() == taken).collect()
    }

    async fn kill(&mut self, place: usize) {
        self.frozen[place] = None;
        if let Some(weir) = self.places[place].take() {
            let since = Instant::now();
            self.logs.push((place, weir.log()));
            weir.kill().await;
            self.disturbed_since(since);
        }
    }

    /// Starts again whoever has ended by itself, as a supervisor does. It should not have, unless a broker that we kill
    /// has undone a commit.
    pub(super) fn supervise(&mut self) {
        for place in 0..INSTANCES {
            let Some(weir) = &mut self.places[place] else { continue };
            let Some(status) = weir.has_ended() else { continue };
            let (life, log) = (self.logs.len(), weir.log());
            let told = format!("place {place}, life {life}: by itself, {status}");
            let was_undone = self.broker.is_some() && log.contains("has been rolled back");
            let ends = if was_undone { &mut self.mended } else { &mut self.bad_ends };
            ends.push(told);
            self.logs.push((place, log));
            self.frozen[place] = None;
            self.start(place);
        }
    }

    /// Ends an instance as an operator does.
    async fn end(&mut self, place: usize) {
        self.thaw(place).await;
        self.supervise();
        let Some(mut weir) = self.places[place].take() else { return };
        let since = Instant::now();
        weir.signal("TERM").await;
        let (code, _) = weir.ended().await;
        if code != Some(0) {
            self.bad_ends.push(format!("place {place}, life {}: {code:?}", self.logs.len()));
        }
        self.logs.push((place, weir.log()));
        self.disturbed_since(since);
    }

    /// Ends all, and says which could not be ended in good order.
    pub(super) async fn end_all(&mut self) {
        for place in 0..INSTANCES {
            self.end(place).await;
        }
    }

    async fn freeze(&mut self, place: usize, span: Duration) {
        if let (Some(weir), None) = (&self.places[place], self.frozen[place]) {
            weir.signal("STOP").await;
            let now = Instant::now();
            self.frozen[place] = Some((now, now + span));
            // How long it is going to be is not known: it may be killed or thawed before.
            self.disturbances.push(now..now + span + COMES_TO_ITSELF);
        }
    }

    async fn thaw(&mut self, place: usize) {
        if let (Some((since, _)), Some(weir)) = (self.frozen[place].take(), &self.places[place]) {
            weir.signal("CONT").await;
            self.disturbed_since(since);
        }
    }

    pub(super) async fn thaw_all(&mut self) {
        for place in 0..INSTANCES {
            self.thaw(place).await;
        }
    }

    /// Lets time pass, and thaws whoever's time has come.
    pub(super) async fn pass(&mut self, span: Duration) {
        let end = Instant::now() + span;
        loop {
            let due = (0..INSTANCES).filter_map(|place| Some((self.frozen[place]?.1, place))).min();
            let Some((at, place)) = due.filter(|(at, _)| *at <= end) else { break };
            sleep_until(at).await;
            self.thaw(place).await;
        }
        sleep_until(end).await;
    }

    /// Notes that something was going on from `since` until now, and what follows from it for a while more.
    fn disturbed_since(&mut self, since: Instant) {
        self.disturbances.push(since..Instant::now() + Duration::from_secs(1));
    }

    pub(super) async fn suffer(&mut self, fault: Fault, dice: &mut Dice) {
        self.supervise();
        let taken = self.places(true);
        let free = self.places(false);
        let place = taken[dice.below(taken.len())];
        let grows = taken.len() == 1 || (!free.is_empty() && dice.below(3) > 0);
        match fault {
            Fault::Kill => {
                self.kill(place).await;
                self.start(place);
            }
            Fault::Freeze => self.freeze(place, dice.millis(1000..=8000)).await,
            Fault::Restart => {
                self.end(place).await;
                self.start(place);
            }
            Fault::Scale if grows => self.start(free[dice.below(free.len())]),
            Fault::Scale => self.end(place).await,
            Fault::Tide => {
                for count in [1, 3, 1, 2] {
                    self.scale_to(count).await;
                    self.pass(dice.millis(1000..=3000)).await;
                }
            }
            Fault::Model(ailment) => {
                self.model.suffer(ailment);
                self.pass(Duration::from_secs(2)).await;
                self.model.suffer(Ailment::None);
            }
            Fault::BrokerKill => self.broker_down(dice.millis(0..=2000)).await,
            Fault::BrokerDown(span) => self.broker_down(span).await,
            Fault::BrokerPause => self.broker_stopped(dice.millis(1000..=8000)).await,
            Fault::BrokerStopped(span) => self.broker_stopped(span).await,
        }
    }

    /// Ends what a broker has left hanging, where it is ours: transactions, and members that died.
    pub(super) async fn end_hanging(&mut self) {
        if let Some(broker) = &self.broker {
            self.mended.extend(broker.end_hanging().await);
            self.mended.extend(broker.forget_dead_members().await);
        }
    }

    async fn scale_to(&mut self, count: usize) {
        for place in 0..INSTANCES {
            let running = self.places(true).len();
            if running > count && self.places[place].is_some() {
                self.end(place).await;
            } else if running < count && self.places[place].is_none() {
                self.start(place);
            }
        }
    }

    async fn broker_down(&mut self, span: Duration) {
        self.without_broker(async |broker: &OwnBroker| {
            broker.kill().await;
            tokio::time::sleep(span).await;
            broker.start_again().await;
        })
        .await;
    }

    async fn broker_stopped(&mut self, span: Duration) {
        self.without_broker(async |broker: &OwnBroker| {
            broker.pause().await;
            tokio::time::sleep(span).await;
            broker.resume().await;
        })
        .await;
    }

    async fn without_broker(&mut self, outage: impl AsyncFnOnce(&OwnBroker)) {
        // Thawing has to wait: nobody else may use the fleet meanwhile.
        let Some(broker) = self.broker.take() else { return };
        let since = Instant::now();
        outage(&broker).await;
        self.broker = Some(broker);
        self.disturbances.push(since..Instant::now() + COMES_TO_ITSELF);
        self.pass(Duration::ZERO).await;
    }
}
