//! A load generator that does nothing but call the model: each connection asks again when it was answered. What it
//! gets is what the stand-in and reqwest allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::figures::Rate;
use super::process::cpu_of;

/// A body as weir sends it.
const BODY: &str = r#"{"model":"llama3.2:latest","stream":true,"options":{"temperature":0.7},"format":"","prompt":"You are the analyst of an automated workflow. Be factual, be brief, and say so when something can't be known from what you are given.\n\nTask: analyze the books of month 123456\n\nData: data_processed\n\nPrevious Analysis: analysis_complete\n\nWork out what this task calls for: the findings, what they rest on, and what to do next.\n\nAnswer in plain text, the most important finding first."}"#;

/// Makes `total` calls over `connections` connections.
pub(crate) fn calls(url: &str, connections: usize, total: u64) -> Rate {
    // It may be there already, from an earlier bench.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let url = format!("{url}/api/generate");
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(connections)
            .no_proxy()
            .build()
            .unwrap();
        // Each connection is made once before the clock runs.
        round(&client, &url, connections, connections as u64).await;
        let (since, cpu) = (Instant::now(), cpu_of("self"));
        round(&client, &url, connections, total).await;
        Rate::of(total, since.elapsed(), cpu_of("self").saturating_sub(cpu))
    })
}

async fn round(client: &reqwest::Client, url: &str, connections: usize, total: u64) {
    let begun = Arc::<AtomicU64>::default();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (client, url, begun) = (client.clone(), url.to_owned(), Arc::clone(&begun));
        tasks.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < total {
                let answer = client.post(&url).body(BODY).send().await.unwrap();
                answer.bytes().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}
