//! Datagrams that are to be sent.

use std::net::SocketAddr;

use crate::{keys::TransportKey, transport::Path};

/// Datagrams one after another in one buffer, so that to make one allocates nothing once the buffer has grown to what is needed.
#[derive(Debug, Default)]
pub struct Datagrams {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: Path,
    transport: TransportKey,
    start: usize,
    end: usize,
}

/// One of [`Datagrams`].
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'d> {
    /// Its way.
    pub path: Path,
    /// Whose it is: datagrams of one transport are kept in order.
    pub transport: TransportKey,
    /// What is sent.
    pub bytes: &'d [u8],
}

impl Datagrams {
    /// Adds one.
    pub fn push(&mut self, path: Path, transport: TransportKey, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries.push(Entry { path, transport, start, end: self.bytes.len() });
    }

    /// Adds one that is written onto the end of the buffer, which must not be changed before; nothing is added if that fails. Returns its size.
    ///
    /// # Errors
    /// What `write` fails with.
    pub fn write<E>(
        &mut self,
        path: Path,
        transport: TransportKey,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.entries.push(Entry { path, transport, start, end: self.bytes.len() });
        Ok(self.bytes.len() - start)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Datagram<'_>> {
        let entry = self.entries.get(at)?;
        let bytes = self.bytes.get(entry.start..entry.end)?;
        Some(Datagram { path: entry.path, transport: entry.transport, bytes })
    }

    /// All, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Forgets all; the room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// Datagrams to other nodes, kept in the same way.
#[derive(Debug, Default)]
pub struct LinkDatagrams {
    bytes: Vec<u8>,
    /// Where to, and where each ends.
    entries: Vec<(SocketAddr, usize)>,
}

impl LinkDatagrams {
    /// Adds one.
    pub(super) fn push(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.entries.push((to, self.bytes.len()));
    }

    /// Adds one that is written onto the end of the buffer, which must not be changed before; nothing is added if that fails.
    pub(super) fn write<E>(
        &mut self,
        to: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.entries.push((to, self.bytes.len()));
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(SocketAddr, &[u8])> {
        let (to, end) = *self.entries.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.entries.get(before)).map_or(0, |entry| entry.1);
        Some((to, self.bytes.get(start..end)?))
    }

    /// All, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Forgets all; the room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}
