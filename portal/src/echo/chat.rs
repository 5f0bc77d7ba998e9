//! The data channels of a session: pings are answered, and what others have to say is said.

use kaigi_proto::v1::{
    DataExchangeReply, DataExchangeRequest, DataMessage, DataSource, data_exchange_reply::Event,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;

use super::error::EchoError;
use crate::backend::{Backend, CallError};

/// Longest text that is sent, in bytes: all browsers take such.
pub(super) const MAX_TEXT: usize = 16 * 1024;

/// A text for a session's channels.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) text: String,
    pub(super) reply: oneshot::Sender<Result<(), EchoError>>,
}

/// The exchange of data with a session's access-node.
#[derive(Debug)]
pub(super) struct Chat {
    requests: mpsc::Sender<DataExchangeRequest>,
    replies: Streaming<DataExchangeReply>,
    channels: u32,
    /// How many messages have come.
    heard: u64,
}

impl Chat {
    pub(super) async fn open(backend: &Backend, source: &DataSource) -> Result<Self, CallError> {
        let (requests, replies) = backend.exchange_data(source).await?;
        Ok(Self { requests, replies, channels: 0, heard: 0 })
    }

    /// How many messages the client has sent.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Does what is next. Not to be called again when it was `false`: the exchange has ended. Cancellation-safe.
    pub(super) async fn step(&mut self, sayings: &mut mpsc::Receiver<Saying>) -> bool {
        tokio::select! {
            reply = self.replies.message() => match reply {
                Ok(Some(reply)) => self.take(reply),
                Ok(None) | Err(_) => return false,
            },
            Some(Saying { text, reply }) = sayings.recv() => {
                // Who asked may have gone away.
                let _: Result<_, _> = reply.send(self.say(text, None));
            }
        }
        true
    }

    fn take(&mut self, reply: DataExchangeReply) {
        match reply.event {
            Some(Event::Channels(open)) => self.channels = open,
            Some(Event::Message(message)) => {
                self.heard += 1;
                let text = std::str::from_utf8(&message.payload).ok().filter(|_| message.text);
                if let Some(pong) = text.and_then(answer) {
                    // One who sends faster than he is answered goes without.
                    let _: Result<_, _> = self.say(pong, message.channel);
                }
            }
            None => {}
        }
    }

    fn say(&self, text: String, channel: Option<u32>) -> Result<(), EchoError> {
        if self.channels == 0 {
            return Err(EchoError::NoChannel);
        }
        let message = DataMessage { payload: text.into_bytes().into(), text: true, channel };
        let request = DataExchangeRequest { stream_id: String::new(), message: Some(message) };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EchoError::TooFast,
            mpsc::error::TrySendError::Closed(_) => EchoError::NoSession,
        })
    }
}

/// What a text is answered with: `ping <x>` with `pong <x>`.
fn answer(text: &str) -> Option<String> {
    let rest = text.strip_prefix("ping").filter(|rest| rest.is_empty() || rest.starts_with(' '))?;
    (text.len() <= MAX_TEXT).then(|| format!("pong{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_answered_with_what_they_carry() {
        for (ping, pong) in
            [("ping 12", Some("pong 12")), ("ping", Some("pong")), ("ping  a b", Some("pong  a b"))]
        {
            assert_eq!(answer(ping).as_deref(), pong);
        }
        for other in ["", "pong 1", "pingpong", " ping 1", "PING 1"] {
            assert_eq!(answer(other), None, "{other}");
        }
        assert_eq!(answer(&format!("ping {}", "x".repeat(MAX_TEXT))), None);
    }
}
