//! Names that are almost one of ours.
//!
//! Our prefixes also hold variables of others (`KAFKA_PORT` in Kubernetes, `OLLAMA_HOST`), so an unknown
//! name is no error. One that is a slip of the finger away from ours is worth a word.

use super::table;

/// Names that look like a slip and belong to others.
const FOREIGN: [&str; 1] = ["OLLAMA_MODELS"];

/// The longest name that is looked at; ours are shorter.
const NAME_MAX: usize = 64;

/// Returns the variable that was probably meant by `name`, which is none of ours.
pub(super) fn meant(name: &str) -> Option<String> {
    if name.len() > NAME_MAX || FOREIGN.contains(&name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let near = |ours: &String| {
        // Two of ten letters are no slip: RUST_LOG is two from RUST_LIB.
        let most = if ours.len() > 10 { 2 } else { 1 };
        ours.len().abs_diff(upper.len()) <= most
            && distance(upper.as_bytes(), ours.as_bytes()) <= most
    };
    let candidates = table::variables().flat_map(|variable| {
        let file = variable.file();
        std::iter::once(variable.name.to_owned()).chain(file)
    });
    candidates.filter(near).min_by_key(|ours| distance(upper.as_bytes(), ours.as_bytes()))
}

/// Returns how many letters must be put in, taken out or exchanged to make `a` of `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (y, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
