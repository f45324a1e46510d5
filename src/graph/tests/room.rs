use std::path::Path;

/// What the room may use, so that it can be read, tested and moved on its own; and its own modules.
const ALLOWED: [&str; 7] =
    ["std", "super", "tokio", "tokio_util", "futures_util", "serde", "thiserror"];

#[test]
fn the_room_imports_nothing_from_the_rest_of_the_crate() {
    let room = Path::new(file!()).parent().unwrap().parent().unwrap();
    let mut files = 0;

    for entry in std::fs::read_dir(room).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        files += 1;
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let place = format!("{}: {line}", path.display());
            if let Some(used) = line.trim_start_matches("pub ").strip_prefix("use ") {
                let first = used.split([':', ';', ' ']).next().unwrap();
                let own = first == "crate" || room.join(format!("{first}.rs")).exists();
                assert!(own || ALLOWED.contains(&first), "{place}");
            }
            let ours = ["graph::", "__graph_state"];
            for path in line.split("crate::").skip(1) {
                assert!(ours.iter().any(|ours| path.starts_with(ours)), "{place}");
            }
        }
    }

    assert!(files > 10, "the sources are in {}", room.display());
}
