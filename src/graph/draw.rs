//! A built graph as a picture: Mermaid for documents, DOT for Graphviz.

use super::builder::Graph;
use super::route::{Conditional, Resolved};
use super::shape::{Exits, NodeId};
use super::state::State;

impl<S: State> Graph<S> {
    /// The graph as a Mermaid flowchart. Conditional edges are dotted; a durable node has double
    /// sides, a deferred one slanted; a join is a hexagon.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        let mut line = |line: std::fmt::Arguments<'_>| push(&mut text, line);
        line(format_args!("    start([start])"));
        for id in self.shape.ids() {
            let (name, options) = (mermaid_text(self.shape.name(id)), &self.nodes[id].options);
            let id = id.place();
            match (options.durable, options.deferred) {
                (true, _) => line(format_args!("    n{id}[[\"{name}\"]]")),
                (false, true) => line(format_args!("    n{id}[/\"{name}\"/]")),
                (false, false) => line(format_args!("    n{id}[\"{name}\"]")),
            }
        }
        line(format_args!("    finish([end])"));
        for way in self.ways() {
            match way {
                Way::Join { at } => line(format_args!("    j{at}{{{{all}}}}")),
                Way::Anywhere { at } => line(format_args!("    any{at}((any))")),
                Way::Edge { from, to } => line(format_args!("    {from} --> {to}")),
                Way::Route { from, to, label } => {
                    line(format_args!("    {from} -. \"{}\" .-> {to}", mermaid_text(&label)));
                }
            }
        }
        text
    }

    /// The graph in DOT, Graphviz's language. Conditional edges are dashed; a durable node has
    /// double lines, a deferred one is a parallelogram; a join is a hexagon.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph {\n    node [shape=box]\n");
        let mut line = |line: std::fmt::Arguments<'_>| push(&mut text, line);
        line(format_args!("    start [shape=oval]"));
        for id in self.shape.ids() {
            let (name, options) = (dot_text(self.shape.name(id)), &self.nodes[id].options);
            let id = id.place();
            let peripheries = if options.durable { ", peripheries=2" } else { "" };
            let shape = if options.deferred { ", shape=parallelogram" } else { "" };
            line(format_args!("    n{id} [label=\"{name}\"{peripheries}{shape}]"));
        }
        line(format_args!("    finish [label=\"end\", shape=oval]"));
        for way in self.ways() {
            match way {
                Way::Join { at } => line(format_args!("    j{at} [label=\"all\", shape=hexagon]")),
                Way::Anywhere { at } => {
                    line(format_args!("    any{at} [label=\"any\", shape=circle]"));
                }
                Way::Edge { from, to } => line(format_args!("    {from} -> {to}")),
                Way::Route { from, to, label } => line(format_args!(
                    "    {from} -> {to} [style=dashed, label=\"{}\"]",
                    dot_text(&label)
                )),
            }
        }
        text.push_str("}\n");
        text
    }

    /// All that is drawn besides the nodes, in an order that depends on the graph alone.
    fn ways(&self) -> Vec<Way> {
        let shape = &self.shape;
        let mut ways = Vec::new();
        for (at, join) in shape.joins.iter().enumerate() {
            ways.push(Way::Join { at });
            ways.push(Way::Edge { from: format!("j{at}"), to: self.target(join.target) });
        }
        self.leave("start", &shape.start, &self.start, &mut ways);
        for id in shape.ids() {
            let (from, exits) = (format!("n{}", id.place()), &shape.places[id].exits);
            self.leave(&from, exits, &self.nodes[id].conditionals, &mut ways);
        }
        ways
    }

    fn leave(
        &self,
        from: &str,
        exits: &Exits,
        conditionals: &[Conditional<S>],
        ways: &mut Vec<Way>,
    ) {
        let edge = |to: String| Way::Edge { from: from.to_owned(), to };
        ways.extend(exits.edges.iter().map(|id| edge(self.target(Some(*id)))));
        ways.extend(exits.ends.then(|| edge(self.target(None))));
        ways.extend(exits.joins.iter().map(|(join, _)| edge(format!("j{}", join.place()))));
        // They are asked in the order in which they were declared, and drawn in that of their labels.
        let mut conditionals: Vec<&Conditional<S>> = conditionals.iter().collect();
        conditionals.sort_by_key(|conditional| &conditional.label);
        for conditional in conditionals {
            match &conditional.targets {
                Resolved::Any => {
                    let at = ways.len();
                    let label = conditional.label.to_string();
                    ways.push(Way::Anywhere { at });
                    ways.push(Way::Route { from: from.to_owned(), to: format!("any{at}"), label });
                }
                Resolved::Mapped(pairs) => ways.extend(pairs.iter().map(|(answer, target)| {
                    let (from, to) = (from.to_owned(), self.target(*target));
                    Way::Route { from, to, label: answer.to_string() }
                })),
            }
        }
    }

    fn target(&self, id: Option<NodeId>) -> String {
        id.map_or_else(|| "finish".to_owned(), |id| format!("n{}", id.place()))
    }
}

enum Way {
    Join { at: usize },
    Anywhere { at: usize },
    Edge { from: String, to: String },
    Route { from: String, to: String, label: String },
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.push_str(&std::fmt::format(line));
    text.push('\n');
}

/// Mermaid has no escape but entities. It takes no empty text, and one that begins with a backtick
/// for Markdown.
fn mermaid_text(text: &str) -> String {
    if text.is_empty() {
        return " ".to_owned();
    }
    let text = text.replace('#', "#35;").replace('"', "#quot;").replace('`', "#96;");
    text.replace('\n', "<br>")
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
