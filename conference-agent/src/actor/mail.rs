//! What callers send a room.

use std::time::Duration;

use kaigi_proto::ids::ParticipantId;
use tokio::sync::oneshot;

use super::{Actor, Waiting};
use crate::{
    audience::EventSender,
    room::{Command, Input, Join, Refusal, Reply, RequestId, RequestKey},
};

/// Where a reply goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, Refusal>>;

/// What callers send a room.
#[derive(Debug)]
pub(crate) enum Mail {
    Join {
        join: Join,
        /// How long the participant may be away; zero = not at all.
        window: Duration,
        events: EventSender,
        reply: ReplyTo,
    },
    Request {
        key: Option<RequestKey>,
        command: Command,
        reply: ReplyTo,
    },
    /// Takes a participant's place over on a new stream, which goes on after an event.
    Resume {
        participant: ParticipantId,
        after: After,
        events: EventSender,
        reply: ReplyTo,
    },
    /// The participant has its events up to this one; `exact`: and no more of its last stream.
    Acknowledge {
        participant: ParticipantId,
        seq: u64,
        exact: bool,
    },
    /// One of the participant's streams was dropped.
    Gone {
        participant: ParticipantId,
        stream: u64,
    },
}

/// After which event a stream is to go on, and who says so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// A client that was away has everything up to it; `exact`: it says so itself.
    Client { seq: u64, exact: bool },
    /// A portal that lost the agent has had everything up to it.
    Portal { seq: u64 },
}

impl Actor {
    pub(super) fn take(&mut self, mail: Mail) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        match mail {
            Mail::Join { join, window: _, events, reply } if self.may_join_again(&join.participant) => {
                self.join_again(&join.participant, events, reply, request.0);
            }
            Mail::Join { join, window, events, reply } => {
                let joins = Some((join.participant.clone(), events, window));
                self.replies.insert(request, Waiting { reply, joins, for_session_of: None });
                self.put(Input::Request { request, key: None, command: Command::Join(join) });
            }
            Mail::Request { key, command, reply } => {
                let for_session_of = match &command {
                    Command::Publish(publish) => Some(publish.participant.clone()),
                    Command::Subscribe(subscribe) => Some(subscribe.participant.clone()),
                    _ => None,
                };
                self.replies.insert(request, Waiting { reply, joins: None, for_session_of });
                self.put(Input::Request { request, key, command });
            }
            Mail::Resume { participant, after, events, reply } => {
                let result = self.resume(&participant, after, events, request.0);
                if reply.send(result.map(|()| Reply::Done)).is_err() {
                    self.detach(participant, request.0);
                }
            }
            Mail::Acknowledge { participant, seq, exact } => {
                if let Some(listener) = self.audience.get_mut(&participant) {
                    listener.feed.acknowledge(seq, self.log.latest());
                    if exact {
                        listener.feed.nothing_else_arrived();
                    }
                    if let Some(saved) = self.feeds.get(&participant)
                        && !saved.confirmed
                    {
                        self.feeds.insert(participant, listener.feed.saved());
                    }
                }
            }
            Mail::Gone { participant, stream } => self.detach(participant, stream),
        }
    }
}
