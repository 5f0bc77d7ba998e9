use futures::StreamExt;
use kaigi_proto::auth::ClusterSecret;
use kaigi_room_config::RoomConfig;
use kaigi_worker::{Channels, Tasks};
use tokio::sync::oneshot;

use super::*;
use crate::{
    audience::event_queue,
    feed::Backlog,
    room::{Command, Join, Settings},
    shared::Limits,
};

const ROOM: &str = "000000000000000000000001";

/// A room whose calls reach nobody.
fn actor() -> Actor {
    let (id, agent) = (RoomId::new(ROOM).unwrap(), WorkerId::new("agent").unwrap());
    let channels = Channels::new(ClusterSecret::default());
    let manager = channels.to("http://127.0.0.1:1").unwrap();
    let shared = Shared::new(agent.clone(), channels, manager, Tasks::default(), Limits::default());
    let settings = Settings { agent, epoch: 1, idle: Duration::from_secs(30), seed: [0; 32] };
    let config = RoomConfig::new(ROOM, "room", "service");
    let room = Room::new(id.clone(), config, settings, Instant::now()).unwrap();
    let (mailbox, mail) = mpsc::channel(1);
    let (_, news) = mpsc::channel(1);
    let inbox = Inbox {
        mail,
        mailbox: mailbox.downgrade(),
        news,
        overrun: CancellationToken::new(),
        hand_over: CancellationToken::new(),
    };
    Actor::new(id, room, Arc::new(shared), inbox, None)
}

fn join(actor: &mut Actor, name: &str, window: Duration) -> crate::audience::EventStream {
    let (events, stream) = event_queue(Backlog::default());
    let (reply, _) = oneshot::channel();
    let join = Join {
        participant: ParticipantId::new(name).unwrap(),
        user: "null".into(),
        role: "presenter".into(),
        isp: String::new(),
        region: String::new(),
    };
    let participant = join.participant.clone();
    actor.take(Mail::Join { join, window, events, reply });
    actor.drain();
    actor.take(Mail::Acknowledge { participant, seq: 0, exact: false });
    stream
}

#[tokio::test]
async fn a_panic_ends_the_room_by_dropping_its_participants() {
    let mut actor = actor();
    let events = join(&mut actor, "ann", Duration::ZERO);
    actor.guarded(|_| panic!("a fault of the room"));
    actor.drain();
    assert!(actor.ended);
    let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
    assert!(matches!(events.as_slice(), [Event::Joined(_), Event::Dropped(_)]), "{events:?}");
}

#[tokio::test]
async fn a_session_whose_requester_went_away_is_ended() {
    let mut actor = actor();
    let _events = join(&mut actor, "ann", Duration::ZERO);
    let (reply, gone) = oneshot::channel();
    drop(gone);
    let participant = ParticipantId::new("ann").unwrap();
    let waiting = Waiting { reply, joins: None, for_session_of: Some(participant.clone()) };
    let request = RequestId(99);
    actor.replies.insert(request, waiting);
    let track = crate::room::PublishTrack { kind: crate::room::Kind::Audio, mid: "0".into(), source: None };
    let publish = crate::room::Publish {
        participant,
        tracks: vec![track],
        data: false,
        any_label: false,
        attributes: None,
        transport: None,
        own_transport: false,
    };
    actor
        .room
        .handle(Input::Request { request, key: None, command: Command::Publish(publish) }, Instant::now());
    assert_eq!(actor.room.counts().1, 1);
    let node =
        crate::room::Node { worker: WorkerId::new("access").unwrap(), endpoint: "http://127.0.0.1:1".into() };
    // The room's calls so far: the mixer's place, the participant's place, the publication.
    for (call, reply) in
        [(CallId(1), crate::room::CallReply::Scheduled(node)), (CallId(2), crate::room::CallReply::Done)]
    {
        actor.put(Input::CallDone { call, result: Ok(reply) });
    }
    actor.drain();
    assert_eq!(actor.room.counts().1, 0);
}

fn resume(actor: &mut Actor, name: &str, after: u64) -> Result<crate::audience::EventStream, Refusal> {
    let (events, stream) = event_queue(Backlog::default());
    let (reply, mut replied) = oneshot::channel();
    let participant = ParticipantId::new(name).unwrap();
    actor.take(Mail::Resume {
        participant,
        after: After::Client { seq: after, exact: false },
        events,
        reply,
    });
    actor.drain();
    replied.try_recv().unwrap().map(|_| stream)
}

fn break_stream(actor: &mut Actor, name: &str) {
    let participant = ParticipantId::new(name).unwrap();
    let stream = actor.audience[&participant].stream;
    actor.take(Mail::Gone { participant, stream });
    actor.drain();
}

/// Numbers of the events that are there, as far as they have one.
fn seqs(stream: &mut crate::audience::EventStream) -> Vec<u64> {
    use futures::FutureExt;
    std::iter::from_fn(|| stream.next().now_or_never()?).map(|event| event.unwrap().seq).collect()
}

const WINDOW: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_who_is_away_keeps_its_place_for_the_window() {
    let mut actor = actor();
    let _ann = join(&mut actor, "ann", WINDOW);
    let before = Instant::now();
    break_stream(&mut actor, "ann");
    actor.timeout(before + WINDOW - Duration::from_millis(1));
    actor.drain();
    assert_eq!(actor.room.counts().0, 1);
    actor.timeout(Instant::now() + WINDOW);
    actor.drain();
    assert_eq!(actor.room.counts().0, 0);
    assert_eq!(resume(&mut actor, "ann", 0).unwrap_err(), Refusal::NotJoined);
}

#[tokio::test]
async fn one_who_comes_back_gets_what_it_missed_and_an_old_break_is_forgotten() {
    let mut actor = actor();
    let mut ann = join(&mut actor, "ann", WINDOW);
    let _bob = join(&mut actor, "bob", Duration::ZERO);
    assert_eq!(seqs(&mut ann), [0, 2], "what it joined with has no number, that it joined it is not told");
    let old = actor.audience[&ParticipantId::new("ann").unwrap()].stream;
    break_stream(&mut actor, "ann");
    let _cat = join(&mut actor, "cat", Duration::ZERO);
    let mut ann = resume(&mut actor, "ann", 2).unwrap();
    assert_eq!(seqs(&mut ann), [3]);
    actor.take(Mail::Gone { participant: ParticipantId::new("ann").unwrap(), stream: old });
    actor.timeout(Instant::now() + WINDOW);
    actor.drain();
    assert_eq!(actor.room.counts().0, 3);
    let _dan = join(&mut actor, "dan", Duration::ZERO);
    assert_eq!(seqs(&mut ann), [4]);
}

#[tokio::test]
async fn a_stream_that_is_taken_over_ends() {
    let mut actor = actor();
    let ann = join(&mut actor, "ann", WINDOW);
    let mut again = resume(&mut actor, "ann", 0).unwrap();
    let events: Vec<_> = ann.map(|event| event.unwrap().event.unwrap()).collect().await;
    assert!(matches!(events.as_slice(), [Event::Joined(_), Event::Dropped(_)]), "{events:?}");
    let _bob = join(&mut actor, "bob", Duration::ZERO);
    assert_eq!(seqs(&mut again), [2]);
}

#[tokio::test]
async fn without_a_window_the_break_of_a_stream_is_a_leave() {
    let mut actor = actor();
    let _ann = join(&mut actor, "ann", Duration::ZERO);
    assert_eq!(resume(&mut actor, "ann", 0).unwrap_err(), Refusal::NotResumable);
    break_stream(&mut actor, "ann");
    assert_eq!(actor.room.counts().0, 0);
}

#[tokio::test]
async fn one_for_whom_too_much_is_kept_leaves() {
    let mut actor = actor();
    let _ann = join(&mut actor, "ann", WINDOW);
    let _bob = join(&mut actor, "bob", WINDOW);
    break_stream(&mut actor, "ann");
    let text = || Command::Text {
        from: ParticipantId::new("bob").unwrap(),
        to: crate::room::Receiver::One(ParticipantId::new("ann").unwrap()),
        message: "x".into(),
    };
    for _ in 0..=Backlog::default().events {
        let (reply, _) = oneshot::channel();
        actor.take(Mail::Request { key: None, command: text(), reply });
        actor.drain();
    }
    assert_eq!(actor.room.counts().0, 1);
}
