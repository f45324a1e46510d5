//! Every public item has an example of its own, is called in its type's, or says whose shows it.

use std::path::Path;

/// A public type, trait, constant, function or method, with its documentation.
#[derive(Debug, Default)]
struct Item {
    name: String,
    /// The type that a method belongs to.
    owner: Option<String>,
    docs: String,
}

const KINDS: [&str; 7] = ["struct", "enum", "trait", "type", "const", "fn", "async fn"];

impl Item {
    fn has_example(&self) -> bool {
        self.docs.contains("```\n")
    }

    /// The item that has the example, where this one says so.
    fn shown_by<'i>(&self, items: &'i [Self]) -> Option<&'i Self> {
        let text = self.docs.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = text.split_once("See the example at [`")?.1.split('`').next()?;
        items.iter().find(|item| item.name == name && item.has_example())
    }

    fn is_shown(&self, items: &[Self]) -> bool {
        let owner = items
            .iter()
            .find(|item| item.owner.is_none() && self.owner.as_ref() == Some(&item.name));
        let is_called = owner.is_some_and(|owner| {
            let example = if owner.has_example() { Some(owner) } else { owner.shown_by(items) };
            example.is_some_and(|example| example.docs.contains(&format!("{}(", self.name)))
        });
        self.has_example() || self.shown_by(items).is_some() || is_called
    }
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The type of `impl<'a, T: Bound> Type<T> {`.
fn implemented(line: &str) -> Option<String> {
    let mut depth = 0;
    let in_generics = |letter: &char| {
        depth += i32::from(*letter == '<') - i32::from(*letter == '>');
        depth > 0 || *letter == '>'
    };
    let rest: String = line.strip_prefix("impl")?.chars().skip_while(in_generics).collect();
    Some(word(rest.trim_start()))
}

fn read(source: &str, items: &mut Vec<Item>) {
    let (mut docs, mut hidden, mut in_attribute, mut owner) = (String::new(), false, false, None);
    for line in source.lines() {
        let text = line.trim_start();
        if line.starts_with("impl") {
            owner = implemented(line);
        } else if line == "}" {
            owner = None;
        }
        if let Some(doc) = text.strip_prefix("///") {
            docs.push_str(doc.trim_start());
            docs.push('\n');
        } else if text.starts_with("#[") || in_attribute {
            hidden |= text.contains("doc(hidden)");
            in_attribute = !text.ends_with(']');
        } else {
            let declared = text.strip_prefix("pub ").and_then(|rest| {
                KINDS.iter().find_map(|kind| rest.strip_prefix(kind)?.strip_prefix(' '))
            });
            let docs = std::mem::take(&mut docs);
            if let Some(rest) = declared.filter(|_| !hidden) {
                items.push(Item { name: word(rest), owner: owner.clone(), docs });
            }
            hidden = false;
        }
    }
}

#[test]
fn every_public_item_has_an_example_or_says_where_one_is() {
    let room = Path::new(file!()).parent().unwrap().parent().unwrap();
    let mut items = Vec::new();
    for entry in std::fs::read_dir(room).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            read(&std::fs::read_to_string(path).unwrap(), &mut items);
        }
    }

    let name = |item: &Item| match &item.owner {
        Some(owner) => format!("{owner}::{}", item.name),
        None => item.name.clone(),
    };
    let missing: Vec<String> =
        items.iter().filter(|item| !item.is_shown(&items)).map(name).collect();

    assert!(items.len() > 80, "{} items in {}", items.len(), room.display());
    assert!(missing.is_empty(), "without an example: {missing:?}");
}
