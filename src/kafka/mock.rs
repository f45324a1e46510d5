//! A broker in this process's memory, for `weir dev`: librdkafka's mock cluster.
//!
//! It takes transactions but applies neither their offsets nor their aborts, so what runs on it runs at least once. It
//! listens on a port of its own choice on the loopback interface; nothing outlives the value.

use rdkafka::{
    config::FromClientConfigAndContext, producer::FutureProducer, producer::Producer as _,
};

use super::{Config, Error, Kind, Reporter, client, context::Plain, native, thread};

/// How many partitions each topic has.
const PARTITIONS: i32 = 4;

/// The broker, with weir's topics on it.
pub struct Mock {
    /// Owns the cluster. Taken out on the way down.
    client: Option<FutureProducer<Plain>>,
    servers: String,
}

impl Mock {
    /// Starts the broker and creates the topics that `config` names.
    ///
    /// Call it within a Tokio runtime.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub fn start(config: &Config, reporter: &Reporter) -> Result<Self, Error> {
        let native = client::mock();
        let client = FutureProducer::from_config_and_context(&native, Plain::new(reporter))?;
        native::complete_mock(client.client());
        let failed = || Error::new(Kind::Other, "librdkafka's mock cluster does not start");
        let cluster = client.client().mock_cluster().ok_or_else(failed)?;
        for topic in [
            &config.workflow_events_topic,
            &config.workflow_results_topic,
            &config.dlq_topic,
            &config.journal_topic,
        ] {
            let created = cluster.create_topic(topic, PARTITIONS, 1);
            created.map_err(|error| Error::from(error).during(&format!("create topic {topic}")))?;
        }
        let servers = cluster.bootstrap_servers();
        drop(cluster);
        Ok(Self { client: Some(client), servers })
    }

    /// Returns where it listens, as `host:port`.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        thread::close(self.client.take());
    }
}
