//! The multi-agent graph, on one page.
//!
//! ```text
//! START ─► orchestrator ─┬─ data ─────────► data_agent ─────┐
//!              ▲         ├─ analysis ─────► analysis_agent ─┤
//!              │         ├─ llm_analysis ─► llm_analysis ───┤   (durable: its answer is kept)
//!              │         └─ end ──────────► END             │
//!              └────────────────────────────────────────────┘
//! ```

use std::sync::Arc;

use serde_json::Map;

use crate::agents::{
    AgentState, LlmAnalysis, ROUTES, analysis_agent, data_agent, orchestrator, route,
};
use crate::event::WorkflowEvent;
use crate::graph::{BuildError, Graph, NodeOptions, START};
use crate::llm::ChatModel;

/// How many agents have a finding.
const AGENTS: usize = 3;

/// The node whose answers cost money.
pub(super) const LLM_NODE: &str = "llm_analysis";

/// Returns the graph that every event runs through; `model` answers for `llm_analysis`.
///
/// # Errors
/// None unless this function is edited: the graph is checked as it is built.
pub fn agents_graph(model: Arc<dyn ChatModel>) -> Result<Graph<AgentState>, BuildError> {
    Graph::builder()
        .node("orchestrator", orchestrator)
        .node("data_agent", data_agent)
        .node("analysis_agent", analysis_agent)
        .node_with(LLM_NODE, LlmAnalysis::new(model), NodeOptions::new().durable())
        .edge(START, "orchestrator")
        .conditional("orchestrator", "next_agent", route, ROUTES)
        .edge("data_agent", "orchestrator")
        .edge("analysis_agent", "orchestrator")
        .edge(LLM_NODE, "orchestrator")
        .build()
}

/// Returns the state that an event starts with: its task, and where it came from.
#[must_use]
pub fn initial_state(event: &WorkflowEvent) -> AgentState {
    AgentState {
        task: event.task(),
        current_agent: "orchestrator".into(),
        // Room for what each agent finds: a map that grows is hashed anew.
        agent_results: Map::with_capacity(AGENTS),
        metadata: event.run_metadata(),
        ..AgentState::default()
    }
}
