//! docs/errors.md has every text that a client can be refused with.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

use std::{fs, path::Path};

/// Where the texts for clients are made.
const SOURCES: [&str; 13] = [
    "conference-agent/src/room/refusal.rs",
    "portal/src/echo/error.rs",
    "portal/src/echo/fold.rs",
    "portal/src/protocol/request.rs",
    "portal/src/signaling/mod.rs",
    "portal/src/signaling/login.rs",
    "portal/src/signaling/relogin.rs",
    "portal/src/signaling/room.rs",
    "portal/src/ticket.rs",
    "portal/src/token.rs",
    "portal/src/whip/error.rs",
    "portal/src/whip/fragment.rs",
    "portal/src/whip/offer.rs",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The texts of all `#[error("…")]`, each as the pieces around what depends on the case.
fn texts(source: &str) -> Vec<Vec<&str>> {
    let attributes = source.split("#[error(\"").skip(1);
    let texts = attributes.map(|rest| rest.split('"').next().unwrap());
    texts
        .map(|text| {
            text.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest)).collect()
        })
        .collect()
}

/// Whether a text consists of the pieces with anything between them.
fn matches(text: &str, pieces: &[&str]) -> bool {
    let (first, last) = (pieces[0], pieces[pieces.len() - 1]);
    if pieces.len() == 1 {
        return text == first;
    }
    let mut rest = match text.strip_prefix(first) {
        Some(rest) if rest.ends_with(last) => &rest[..rest.len() - last.len()],
        _ => return false,
    };
    pieces[1..pieces.len() - 1].iter().all(|piece| {
        rest.find(piece).is_some_and(|at| {
            rest = &rest[at + piece.len()..];
            true
        })
    })
}

#[test]
fn every_refusal_is_in_the_table() {
    let table = read("docs/errors.md");
    // The first cell of each row.
    let listed: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(text, _)| text))
        .collect();
    let mut count = 0;
    for path in SOURCES {
        for pieces in texts(&read(path)) {
            // A node's own words, or a text of another of these files.
            if pieces.iter().all(|piece| piece.is_empty()) {
                continue;
            }
            count += 1;
            // Some are a part of another, behind its colon.
            let is_in = |text: &&str| {
                matches(text, &pieces)
                    || text.rsplit_once(':').is_some_and(|(_, part)| matches(part, &pieces))
            };
            assert!(listed.iter().any(is_in), "{path}: {pieces:?} is not in docs/errors.md");
        }
    }
    assert!(count > 60, "only {count} texts were found");
}
