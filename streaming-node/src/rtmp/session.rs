//! A peer that publishes one stream: handshake, commands, media. Bytes in, bytes and events out.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    amf::{AmfError, Value, Writer, values},
    chunk::{ChunkError, ChunkReader, Message, OWN_SIZE, write},
    flv::Tag,
};

/// Of the first and second packet of a handshake (5.2.3).
const HANDSHAKE: usize = 1536;
/// The only version there is.
const VERSION: u8 = 3;
/// Longest message before a stream is accepted, and after: a key frame.
const LIMIT: (usize, usize) = (16 << 10, 8 << 20);
/// Longest key.
const MAX_KEY: usize = 256;
/// Bytes after which a peer is to say what it has got, and is told what was got from it.
const WINDOW: u32 = 2_500_000;
/// The message stream that every peer gets.
const STREAM: u32 = 1;
/// Chunk streams that are written to.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;

/// Types of messages (5.4, 7.1).
mod kind {
    pub(super) const CHUNK_SIZE: u8 = 1;
    pub(super) const ABORT: u8 = 2;
    pub(super) const ACKNOWLEDGEMENT: u8 = 3;
    pub(super) const USER_CONTROL: u8 = 4;
    pub(super) const WINDOW: u8 = 5;
    pub(super) const BANDWIDTH: u8 = 6;
    pub(super) const AUDIO: u8 = 8;
    pub(super) const VIDEO: u8 = 9;
    pub(super) const COMMAND_3: u8 = 17;
    pub(super) const COMMAND: u8 = 20;
}

/// Events of the control stream (7.1.7).
const STREAM_BEGIN: [u8; 2] = [0, 0];
const PING: [u8; 2] = [0, 6];
const PONG: [u8; 2] = [0, 7];

/// What a peer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It wants to publish under this key: [`Session::accept`] or [`Session::refuse`] is to be called.
    Publish(String),
    /// Sound or picture of what was accepted.
    Media(Tag),
    /// It publishes no more.
    Ended,
}

/// Why a peer can't be listened to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No RTMP, or encrypted.
    #[error("version {0} of RTMP is not spoken")]
    Version(u8),
    /// See [`ChunkError`].
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// See [`AmfError`].
    #[error(transparent)]
    Amf(#[from] AmfError),
    /// A message that is too short for what it says.
    #[error("a message of type {0} is too short")]
    Short(u8),
    /// It wants to be sent streams.
    #[error("nothing can be played here")]
    Plays,
    /// Not one that could be.
    #[error("no stream key, or one that is too long")]
    Key,
    /// A second time.
    #[error("a second stream is published")]
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the first packet.
    Hello,
    /// Waits for the second, which says nothing new.
    Echo,
    Commands,
    /// Waits for an answer.
    Asked,
    Publishing,
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    state: State,
    shaking: BytesMut,
    chunks: ChunkReader,
    out: Vec<u8>,
    /// Bytes that came, and came when it was last said.
    received: (u32, u32),
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Hello,
            shaking: BytesMut::new(),
            chunks: ChunkReader::new(LIMIT.0),
            out: Vec::new(),
            received: (0, 0),
        }
    }
}

impl Session {
    /// Takes what the peer sent, and tells what that means.
    ///
    /// # Errors
    /// See [`SessionError`]; the connection is to be closed.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, SessionError> {
        self.received.0 = self.received.0.wrapping_add(bytes.len() as u32);
        let mut events = Vec::new();
        if self.shake(bytes)? {
            while let Some(message) = self.chunks.next()? {
                self.take(message, &mut events)?;
            }
            if self.received.0.wrapping_sub(self.received.1) >= WINDOW {
                self.received.1 = self.received.0;
                write(&mut self.out, CONTROL, kind::ACKNOWLEDGEMENT, 0, &self.received.0.to_be_bytes());
            }
        }
        Ok(events)
    }

    /// What is to be sent to the peer.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The key is one.
    pub fn accept(&mut self) {
        if self.state == State::Asked {
            self.state = State::Publishing;
            self.chunks.set_limit(LIMIT.1);
            let begin = [&STREAM_BEGIN[..], &STREAM.to_be_bytes()].concat();
            write(&mut self.out, CONTROL, kind::USER_CONTROL, 0, &begin);
            self.status("status", "NetStream.Publish.Start", "go on");
        }
    }

    /// The key is none, or somebody else publishes under it. The connection is to be closed when the peer has been told.
    pub fn refuse(&mut self, reason: &str) {
        if self.state == State::Asked {
            self.state = State::Over;
            self.status("error", "NetStream.Publish.BadName", reason);
        }
    }

    /// Whether chunks have begun; what is not of the handshake is given to them.
    fn shake(&mut self, bytes: &[u8]) -> Result<bool, SessionError> {
        if !matches!(self.state, State::Hello | State::Echo) {
            self.chunks.push(bytes);
            return Ok(true);
        }
        self.shaking.extend_from_slice(bytes);
        if let (State::Hello, Some(version)) = (self.state, self.shaking.first()) {
            if *version != VERSION {
                return Err(SessionError::Version(*version));
            }
            if self.shaking.len() > HANDSHAKE {
                self.shaking.advance(1);
                let hello = self.shaking.split_to(HANDSHAKE);
                // Time and version of 0 say that nothing is to be proven by its bytes, which may be anything.
                self.out.push(VERSION);
                self.out.extend([0; HANDSHAKE]);
                self.out.extend(&hello);
                self.state = State::Echo;
            }
        }
        if self.state == State::Echo && self.shaking.len() >= HANDSHAKE {
            self.shaking.advance(HANDSHAKE);
            let rest = std::mem::take(&mut self.shaking);
            self.chunks.push(&rest);
            self.state = State::Commands;
            return Ok(true);
        }
        Ok(false)
    }

    fn take(&mut self, message: Message, events: &mut Vec<Event>) -> Result<(), SessionError> {
        let payload = &message.payload;
        match message.kind {
            kind::CHUNK_SIZE => self.chunks.set_size(number(&message)?)?,
            kind::ABORT => self.chunks.abort(number(&message)?),
            kind::USER_CONTROL if payload.starts_with(&PING) => {
                let time = payload.get(2..6).ok_or(SessionError::Short(message.kind))?;
                let pong = [&PONG[..], time].concat();
                write(&mut self.out, CONTROL, kind::USER_CONTROL, 0, &pong);
            }
            kind::AUDIO | kind::VIDEO if self.state == State::Publishing && !payload.is_empty() => {
                let Message { kind, timestamp, payload, .. } = message;
                events.push(Event::Media(Tag { kind, timestamp, payload }));
            }
            kind::COMMAND => self.command(payload.clone(), events)?,
            // A zero says that what follows is AMF 0 all the same.
            kind::COMMAND_3 if payload.first() == Some(&0) => self.command(payload.slice(1..), events)?,
            _ => {}
        }
        Ok(())
    }

    fn command(&mut self, payload: Bytes, events: &mut Vec<Event>) -> Result<(), SessionError> {
        let values = values(&payload)?;
        let Some(Value::Text(name)) = values.first() else { return Ok(()) };
        let transaction = match values.get(1) {
            Some(Value::Number(number)) => *number,
            _ => 0.0,
        };
        match *name {
            b"connect" => self.connected(transaction),
            b"createStream" => {
                let created = Writer::default().text("_result").number(transaction).null();
                self.say(0, &created.number(f64::from(STREAM)).done());
            }
            b"publish" => {
                if self.state != State::Commands {
                    return Err(SessionError::Second);
                }
                events.push(Event::Publish(key(values.get(3)).ok_or(SessionError::Key)?));
                self.state = State::Asked;
            }
            b"play" | b"play2" => return Err(SessionError::Plays),
            b"FCUnpublish" | b"closeStream" | b"deleteStream" if self.state == State::Publishing => {
                self.state = State::Over;
                events.push(Event::Ended);
            }
            _ => {}
        }
        Ok(())
    }

    fn connected(&mut self, transaction: f64) {
        let size = OWN_SIZE as u32;
        write(&mut self.out, CONTROL, kind::WINDOW, 0, &WINDOW.to_be_bytes());
        // The second limit type: as it suits the peer.
        let bandwidth = [&WINDOW.to_be_bytes()[..], &[2]].concat();
        write(&mut self.out, CONTROL, kind::BANDWIDTH, 0, &bandwidth);
        write(&mut self.out, CONTROL, kind::CHUNK_SIZE, 0, &size.to_be_bytes());
        let result = Writer::default()
            .text("_result")
            .number(transaction)
            .texts(&[("fmsVer", "FMS/3,0,1,123")])
            .texts(&[
                ("level", "status"),
                ("code", "NetConnection.Connect.Success"),
                ("description", "connected"),
            ]);
        self.say(0, &result.done());
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let status = Writer::default().text("onStatus").number(0.0).null();
        let told = [("level", level), ("code", code), ("description", description)];
        self.say(STREAM, &status.texts(&told).done());
    }

    fn say(&mut self, stream: u32, command: &[u8]) {
        write(&mut self.out, COMMANDS, kind::COMMAND, stream, command);
    }
}

/// What a message of one number says.
fn number(message: &Message) -> Result<u32, SessionError> {
    let bytes = message.payload.first_chunk().ok_or(SessionError::Short(message.kind))?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Encoders put what belongs to the URL behind the key.
fn key(value: Option<&Value<'_>>) -> Option<String> {
    let Some(Value::Text(name)) = value else { return None };
    let key = name.split(|byte| *byte == b'?').next()?;
    let key = std::str::from_utf8(key).ok()?;
    (!key.is_empty() && key.len() <= MAX_KEY).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, 3, kind, stream, payload);
        out
    }
    fn command(name: &str, argument: Option<&str>) -> Vec<u8> {
        let written = Writer::default().text(name).number(4.0).null();
        let written = match argument {
            Some(argument) => written.text(argument),
            None => written,
        };
        message(kind::COMMAND, 1, &written.done())
    }
    /// One whose handshake is over.
    fn session() -> Session {
        let mut session = Session::default();
        let hello = [&[VERSION][..], &[7; HANDSHAKE]].concat();
        assert_eq!(session.receive(&hello), Ok(vec![]));
        let answer = session.take_output();
        assert_eq!(answer.len(), 1 + 2 * HANDSHAKE);
        assert_eq!(answer[1 + HANDSHAKE..], [7; HANDSHAKE], "it is given back what it sent");
        assert_eq!(session.receive(&[0; HANDSHAKE]), Ok(vec![]));
        session
    }
    /// One that publishes under a key.
    fn publishing() -> Session {
        let mut session = session();
        let size = message(kind::CHUNK_SIZE, 0, &4096_u32.to_be_bytes());
        assert_eq!(session.receive(&size), Ok(vec![]));
        for name in ["connect", "releaseStream", "FCPublish", "createStream"] {
            assert_eq!(session.receive(&command(name, None)), Ok(vec![]), "{name}");
        }
        let asked = session.receive(&command("publish", Some("k3y?more=1")));
        assert_eq!(asked, Ok(vec![Event::Publish("k3y".into())]));
        session
    }
    fn says(session: &mut Session, what: &str) -> bool {
        session.take_output().windows(what.len()).any(|bytes| bytes == what.as_bytes())
    }

    #[test]
    fn who_is_accepted_sends_sound_and_picture() {
        let mut session = publishing();
        assert!(says(&mut session, "NetConnection.Connect.Success"));
        let picture = message(kind::VIDEO, 1, &[0x17; 3000]);
        assert_eq!(session.receive(&picture), Ok(vec![]), "it was not accepted yet");
        session.accept();
        assert!(says(&mut session, "NetStream.Publish.Start"));
        let payload = Bytes::from(vec![0x17; 3000]);
        let media = Event::Media(Tag { kind: 9, timestamp: 0, payload });
        assert_eq!(session.receive(&picture), Ok(vec![media]));
        assert_eq!(session.receive(&message(18, 1, b"metadata")), Ok(vec![]));
        assert_eq!(session.receive(&command("deleteStream", None)), Ok(vec![Event::Ended]));
        assert_eq!(session.receive(&picture), Ok(vec![]), "it is over");
    }

    #[test]
    fn who_is_refused_is_told_why() {
        let mut session = publishing();
        session.refuse("nobody waits for this");
        assert!(says(&mut session, "nobody waits for this"));
        assert_eq!(session.receive(&message(kind::VIDEO, 1, &[1])), Ok(vec![]));
        assert_eq!(session.receive(&command("publish", Some("other"))), Err(SessionError::Second));
    }

    #[test]
    fn pings_are_answered_and_bytes_acknowledged() {
        let mut session = publishing();
        let ping = [&PING[..], &[0, 0, 0, 42]].concat();
        drop(session.take_output());
        assert_eq!(session.receive(&message(kind::USER_CONTROL, 0, &ping)), Ok(vec![]));
        assert!(session.take_output().ends_with(&[0, 7, 0, 0, 0, 42]));
        session.accept();
        drop(session.take_output());
        let picture = message(kind::VIDEO, 1, &[0; 4000]);
        for _ in 0..700 {
            assert!(session.receive(&picture).is_ok());
        }
        assert_eq!(session.take_output()[7], kind::ACKNOWLEDGEMENT);
    }

    #[test]
    fn what_is_no_publisher_is_refused() {
        assert_eq!(Session::default().receive(b"GET / HTTP/1.1"), Err(SessionError::Version(b'G')));
        assert_eq!(session().receive(&command("play", Some("a"))), Err(SessionError::Plays));
        assert_eq!(session().receive(&command("publish", None)), Err(SessionError::Key));
        assert_eq!(session().receive(&command("publish", Some(""))), Err(SessionError::Key));
        assert_eq!(session().receive(&command("publish", Some(&"k".repeat(90)))).unwrap().len(), 1);
        assert_eq!(session().receive(&message(kind::CHUNK_SIZE, 0, &[0])), Err(SessionError::Short(1)));
        let refused = session().receive(&[3, 0, 0, 0, 0x80, 0, 0, 9, 0, 0, 0, 0]);
        assert_eq!(refused, Err(SessionError::Chunk(ChunkError::TooLong(0x80_0000))));
    }

    #[test]
    fn anything_at_all_can_be_sent() {
        // A xorshift, so that what fails can be had again.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2_000 {
            let mut session = if random & 1 == 0 { session() } else { publishing() };
            session.accept();
            for _ in 0..20 {
                let bytes: Vec<u8> = (0..40)
                    .map(|_| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random as u8 & if random & 256 == 0 { 0x1f } else { 0xff }
                    })
                    .collect();
                if session.receive(&bytes).is_err() {
                    break;
                }
            }
        }
    }
}
