//! Files in memory, up to so many bytes, for as long as their folder is in use.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::edge::Edge;

/// Most of them.
const MAX_FILES: usize = 20_000;
/// Bytes of all.
const MAX_BYTES: usize = 512 << 20;
/// Of a path.
const MAX_PATH: usize = 1024;
/// Files of a folder in which nothing was stored for that long go: those who watch have seen the end then.
const KEPT: Duration = Duration::from_secs(600);

/// A file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) data: Bytes,
    /// MIME type.
    pub(super) kind: String,
    /// Of a playlist that goes on.
    pub(super) edge: Option<Edge>,
}

/// There is no room for it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another file")]
pub(super) struct Full;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: HashMap<String, File>,
    /// When something was stored in them.
    folders: HashMap<String, Instant>,
    bytes: usize,
}

impl Shelf {
    /// Stores a file, in place of one that is there.
    pub(super) fn put(&mut self, path: &str, file: File, now: Instant) -> Result<(), Full> {
        let (count, before) = (self.files.len(), self.files.get(path).map_or(0, |file| file.data.len()));
        let is_new = !self.files.contains_key(path);
        let bytes = self.bytes - before + file.data.len();
        if path.len() > MAX_PATH || bytes > MAX_BYTES || (is_new && count >= MAX_FILES) {
            return Err(Full);
        }
        self.bytes = bytes;
        self.folders.insert(folder(path).to_owned(), now);
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let removed = self.files.remove(path);
        self.bytes -= removed.as_ref().map_or(0, |file| file.data.len());
        removed.is_some()
    }

    /// Removes what nobody needs any more.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.folders.retain(|_, stored| now.saturating_duration_since(*stored) < KEPT);
        self.files.retain(|path, file| {
            let stays = self.folders.contains_key(folder(path));
            if !stays {
                self.bytes -= file.data.len();
            }
            stays
        });
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> File {
        File { data: vec![0; bytes].into(), kind: "video/mp4".into(), edge: None }
    }

    #[test]
    fn files_are_there_until_they_are_removed_or_their_folder_is_not_used() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        shelf.put("/a/head.mp4", file(1), now).unwrap();
        shelf.put("/b/head.mp4", file(1), now).unwrap();
        shelf.put("/a/1.mp4", file(1), now + KEPT).unwrap();
        shelf.tidy(now + KEPT);
        assert!(shelf.get("/a/head.mp4").is_some() && shelf.get("/b/head.mp4").is_none());
        assert!(shelf.remove("/a/1.mp4") && !shelf.remove("/a/1.mp4"));
        assert_eq!((shelf.files.len(), shelf.bytes), (1, 1));
        shelf.tidy(now + KEPT * 2);
        assert_eq!((shelf.files.len(), shelf.folders.len(), shelf.bytes), (0, 0, 0));
    }

    #[test]
    fn there_is_room_for_so_many_bytes() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        shelf.put("/a/1", file(MAX_BYTES), now).unwrap();
        assert_eq!(shelf.put("/a/2", file(1), now), Err(Full));
        shelf.put("/a/1", file(MAX_BYTES - 1), now).unwrap();
        shelf.put("/a/2", file(1), now).unwrap();
        assert_eq!(shelf.put(&"a".repeat(MAX_PATH + 1), file(0), now), Err(Full));
    }

    #[test]
    fn there_is_room_for_so_many_files() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        for i in 0..MAX_FILES {
            shelf.put(&format!("/a/{i}"), file(0), now).unwrap();
        }
        assert_eq!(shelf.put("/a/more", file(0), now), Err(Full));
        shelf.put("/a/0", file(1), now).unwrap();
    }
}
