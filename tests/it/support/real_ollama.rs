//! The real Ollama of a test run, and what only tests ask of it.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use super::ollama::real_model;

/// One test at a time: the server has one slot, and a test that waits for another's answer measures that.
static TURN: Mutex<()> = Mutex::const_new(());

/// A real server with a small model.
pub(crate) struct Ollama {
    /// Its base URL.
    pub(crate) url: String,
    /// The model's name.
    pub(crate) model: String,
    _turn: MutexGuard<'static, ()>,
}

impl Ollama {
    /// Returns the server, or nothing where tests of it are skipped.
    pub(crate) async fn real() -> Option<Self> {
        let (url, model) = real_model()?;
        Some(Self { url, model, _turn: TURN.lock().await })
    }

    /// Makes a second model out of the first, with these parameters, and returns its name.
    pub(crate) async fn variant(&self, suffix: &str, parameters: &Value) -> String {
        let name = format!("{}-{suffix}", self.model);
        let body = serde_json::json!({
            "model": name, "from": self.model, "parameters": parameters, "stream": false,
        });
        let reply = self.post("/api/create", &body).await;
        assert!(reply.contains("\"success\""), "{reply}");
        name
    }

    /// Orders a model to be unloaded, which happens when its last request has ended.
    pub(crate) async fn unload(&self, model: &str) {
        let body = serde_json::json!({ "model": model, "keep_alive": 0 });
        let reply = self.post("/api/generate", &body).await;
        assert!(reply.contains("\"unload\""), "{reply}");
    }

    /// Returns whether any model is loaded.
    pub(crate) async fn has_loaded(&self) -> bool {
        !self.send("GET", "/api/ps", "").await.contains("{\"models\":[]}")
    }

    /// Sends a request and returns all of the reply.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> String {
        self.send("POST", path, &body.to_string()).await
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> String {
        let address = self.url.trim_start_matches("http://");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.expect("the server");
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("a request sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a reply");
        reply
    }
}
