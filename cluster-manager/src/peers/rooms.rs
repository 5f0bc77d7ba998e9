//! Who is in which room of peers. Pure: what comes of a change is told in what it gives back.

use std::collections::BTreeMap;

/// Longest name of a room, in bytes.
const MAX_ROOM_NAME: usize = 128;
/// Longest name of a peer, in bytes.
const MAX_PEER_NAME: usize = 256;
/// Longest message, in bytes: a portal's largest with what it adds.
pub(super) const MAX_TEXT: usize = 128 << 10;

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rooms at a time.
    pub(super) rooms: usize,
    /// Peers in one room, each of whom is told of each other one.
    pub(super) room_peers: usize,
    /// Peers in all.
    pub(super) peers: usize,
}

impl Default for Limits {
    /// Some 200 bytes for each peer, beside its stream.
    fn default() -> Self {
        Self { rooms: 10_000, room_peers: 64, peers: 100_000 }
    }
}

/// Where peers are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Room(String),
    /// Of peers who are told of nobody.
    Directory,
}

/// A seat as long as it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SeatKey(u64);

/// Why somebody can't enter, or send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the name of a room has 1 to 128 bytes and no control characters")]
    RoomName,
    #[error("the name of a peer has 1 to 256 bytes and no control characters")]
    PeerName,
    #[error("the message is too long")]
    TooLong,
    #[error("the name is taken")]
    Taken,
    #[error("the room is full")]
    RoomFull,
    #[error("there are as many rooms as there may be")]
    TooManyRooms,
    #[error("there are as many peers as there may be")]
    TooManyPeers,
    #[error("the peer is not there")]
    NoPeer,
    #[error("the sender is not there")]
    NotSeated,
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Joined(String),
    Left(String),
    Replaced,
}

/// Whom to tell what.
pub(super) type Tell = Vec<(SeatKey, News)>;

/// What comes of entering.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) key: SeatKey,
    /// The others.
    pub(super) peers: Vec<String>,
    /// The seat that is taken over; what is told to it is the last.
    pub(super) before: Option<SeatKey>,
    pub(super) tell: Tell,
}

#[derive(Debug)]
struct Seat {
    key: SeatKey,
    /// The name that its portal gave it.
    name: String,
}

/// All rooms of peers.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    limits: Limits,
    places: BTreeMap<Place, BTreeMap<String, Seat>>,
    peers: usize,
    last: u64,
}

fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Rooms {
    #[cfg(test)]
    fn with(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A peer comes, or comes back to its `seat`, or (with `replace`) takes its name from whoever has it.
    ///
    /// # Errors
    /// Why it can't.
    pub(super) fn enter(
        &mut self,
        place: &Place,
        peer: &str,
        seat: &str,
        replace: bool,
    ) -> Result<Entered, Refusal> {
        match place {
            Place::Room(room) if !is_name(room, MAX_ROOM_NAME) => return Err(Refusal::RoomName),
            Place::Room(_) | Place::Directory => {}
        }
        if !is_name(peer, MAX_PEER_NAME) {
            return Err(Refusal::PeerName);
        }
        let there = self.places.get(place);
        let older = there.and_then(|peers| peers.get(peer));
        let is_back = older.is_some_and(|older| older.name == seat);
        match older {
            Some(_) if !is_back && !replace => return Err(Refusal::Taken),
            Some(_) => {}
            None => self.check_limits(place, there.map_or(0, BTreeMap::len))?,
        }
        self.last += 1;
        let key = SeatKey(self.last);
        let peers = self.places.entry(place.clone()).or_default();
        let before = peers.insert(peer.to_owned(), Seat { key, name: seat.to_owned() });
        let mut tell = Tell::new();
        let mut others = Vec::new();
        match (&before, is_back) {
            (Some(before), false) => tell.push((before.key, News::Replaced)),
            (Some(_), true) => {}
            (None, _) => self.peers += 1,
        }
        if matches!(place, Place::Room(_)) {
            for (name, other) in peers.iter().filter(|(name, _)| *name != peer) {
                others.push(name.clone());
                if before.is_none() {
                    tell.push((other.key, News::Joined(peer.to_owned())));
                }
            }
        }
        Ok(Entered { key, peers: others, before: before.map(|before| before.key), tell })
    }

    fn check_limits(&self, place: &Place, there: usize) -> Result<(), Refusal> {
        if self.peers >= self.limits.peers {
            return Err(Refusal::TooManyPeers);
        }
        match place {
            Place::Room(_) if there >= self.limits.room_peers => Err(Refusal::RoomFull),
            Place::Room(_) if there == 0 && self.places.len() >= self.limits.rooms => {
                Err(Refusal::TooManyRooms)
            }
            Place::Room(_) | Place::Directory => Ok(()),
        }
    }

    /// A peer goes. One whose seat is somebody else's by now changes nothing.
    pub(super) fn leave(&mut self, place: &Place, peer: &str, key: SeatKey) -> Tell {
        let Some(peers) = self.places.get_mut(place) else { return Tell::new() };
        if peers.get(peer).is_none_or(|seat| seat.key != key) {
            return Tell::new();
        }
        peers.remove(peer);
        self.peers -= 1;
        let tell = match place {
            Place::Room(_) => peers.values().map(|other| (other.key, News::Left(peer.to_owned()))).collect(),
            Place::Directory => Tell::new(),
        };
        if peers.is_empty() {
            self.places.remove(place);
        }
        tell
    }

    /// To which seat a message goes.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub(super) fn receiver(
        &self,
        place: &Place,
        from: &str,
        seat: &str,
        to: &str,
        text: &str,
    ) -> Result<SeatKey, Refusal> {
        if text.len() > MAX_TEXT {
            return Err(Refusal::TooLong);
        }
        let peers = self.places.get(place).ok_or(Refusal::NotSeated)?;
        if peers.get(from).is_none_or(|sender| sender.name != seat) {
            return Err(Refusal::NotSeated);
        }
        peers.get(to).map(|receiver| receiver.key).ok_or(Refusal::NoPeer)
    }

    /// Rooms behind that one with how many are in them, at most `most`; whether there are more.
    pub(super) fn list(&self, after: &str, most: usize) -> (Vec<(String, usize)>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.places.range((Excluded(Place::Room(after.to_owned())), Unbounded));
        let mut rooms: Vec<_> = behind
            .filter_map(|(place, peers)| match place {
                Place::Room(room) => Some((room.clone(), peers.len())),
                Place::Directory => None,
            })
            .take(most + 1)
            .collect();
        let more = rooms.len() > most;
        rooms.truncate(most);
        (rooms, more)
    }

    /// Who is in a room.
    pub(super) fn peers(&self, room: &str) -> Vec<String> {
        let peers = self.places.get(&Place::Room(room.to_owned()));
        peers.map(|peers| peers.keys().cloned().collect()).unwrap_or_default()
    }

    /// Rooms (and the directory) and peers at the moment.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.places.len(), self.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Place {
        Place::Room(name.to_owned())
    }

    fn enter(rooms: &mut Rooms, place: &Place, peer: &str) -> Entered {
        rooms.enter(place, peer, &format!("seat of {peer}"), false).unwrap()
    }

    #[test]
    fn peers_of_a_room_are_told_of_each_other() {
        let mut rooms = Rooms::default();
        let a = enter(&mut rooms, &room("r"), "a");
        assert_eq!((a.peers.len(), a.tell.len()), (0, 0));
        let b = enter(&mut rooms, &room("r"), "b");
        assert_eq!((b.peers, b.tell), (vec!["a".into()], vec![(a.key, News::Joined("b".into()))]));
        let elsewhere = enter(&mut rooms, &room("s"), "a");
        assert!(elsewhere.tell.is_empty(), "rooms know nothing of each other");
        assert_eq!(rooms.leave(&room("r"), "b", b.key), [(a.key, News::Left("b".into()))]);
        assert_eq!(rooms.leave(&room("r"), "a", a.key), []);
        assert_eq!(rooms.list("", 10), (vec![("s".into(), 1)], false));
    }

    #[test]
    fn a_name_is_one_peers_unless_it_is_given_away() {
        let mut rooms = Rooms::default();
        let first = enter(&mut rooms, &room("r"), "a");
        assert_eq!(rooms.enter(&room("r"), "a", "other", false), Err(Refusal::Taken));
        let b = enter(&mut rooms, &room("r"), "b");

        let back = rooms.enter(&room("r"), "a", "seat of a", false).unwrap();
        assert_eq!((back.before, back.tell), (Some(first.key), vec![]), "one who is back was never away");
        assert_eq!(back.peers, ["b"]);
        assert_eq!(rooms.leave(&room("r"), "a", first.key), [], "the older stream's end means nothing");

        let other = rooms.enter(&room("r"), "a", "other", true).unwrap();
        assert_eq!(other.tell, [(back.key, News::Replaced)]);
        assert_eq!(rooms.receiver(&room("r"), "b", "seat of b", "a", ""), Ok(other.key));
        assert_eq!(rooms.count(), (1, 2));
        let _ = b;
    }

    #[test]
    fn messages_go_to_who_is_there_from_who_is_there() {
        let mut rooms = Rooms::default();
        enter(&mut rooms, &room("r"), "a");
        let b = enter(&mut rooms, &room("r"), "b");
        let send = |from, seat, to, text| rooms.receiver(&room("r"), from, seat, to, text);
        assert_eq!(send("a", "seat of a", "b", "hi"), Ok(b.key));
        assert_eq!(send("a", "seat of a", "c", "hi"), Err(Refusal::NoPeer));
        assert_eq!(send("a", "another", "b", "hi"), Err(Refusal::NotSeated));
        assert_eq!(send("a", "seat of a", "b", &"x".repeat(MAX_TEXT + 1)), Err(Refusal::TooLong));
    }

    #[test]
    fn the_directory_tells_of_nobody() {
        let mut rooms = Rooms::default();
        enter(&mut rooms, &Place::Directory, "a");
        let b = enter(&mut rooms, &Place::Directory, "b");
        assert_eq!((b.peers.len(), b.tell.len()), (0, 0));
        assert_eq!(rooms.receiver(&Place::Directory, "a", "seat of a", "b", ""), Ok(b.key));
        assert_eq!(rooms.list("", 10), (vec![], false));
        assert_eq!(rooms.leave(&Place::Directory, "b", b.key), []);
    }

    #[test]
    fn there_are_bounds() {
        let mut rooms = Rooms::with(Limits { rooms: 2, room_peers: 2, peers: 3 });
        let refused = |rooms: &mut Rooms, room_name: &str, peer: &str| {
            rooms.enter(&room(room_name), peer, "s", false).unwrap_err()
        };
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(refused(&mut rooms, name, "a"), Refusal::RoomName);
        }
        assert_eq!(refused(&mut rooms, "r", "\u{0}"), Refusal::PeerName);
        enter(&mut rooms, &room("r"), "a");
        enter(&mut rooms, &room("r"), "b");
        assert_eq!(refused(&mut rooms, "r", "c"), Refusal::RoomFull);
        enter(&mut rooms, &room("s"), "a");
        assert_eq!(refused(&mut rooms, "s", "b"), Refusal::TooManyPeers);
        let mut few = Rooms::with(Limits { rooms: 1, room_peers: 2, peers: 9 });
        enter(&mut few, &room("r"), "a");
        assert_eq!(refused(&mut few, "s", "a"), Refusal::TooManyRooms);
        assert_eq!(rooms.list("", 1), (vec![("r".into(), 2)], true));
        assert_eq!(rooms.list("r", 1), (vec![("s".into(), 1)], false));
    }
}
