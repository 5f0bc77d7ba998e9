//! Everybody who takes part.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::task::JoinSet;

use crate::{
    media::{Media, Stream},
    meter::Histogram,
    scenario::Scenario,
    server::{Client, Server, ServerError, Way, Wish},
};

struct Member {
    client: Client,
    stream: Option<Stream>,
}

#[derive(Default)]
struct Room {
    id: String,
    publishers: Vec<Member>,
    subscribers: Vec<Member>,
}

/// See the module's description.
pub(super) struct Crowd<'c> {
    scenario: &'c Scenario,
    server: &'c Server,
    pub(super) media: Arc<Media>,
    rooms: Vec<Room>,
    first_frames: Histogram,
    failures: Vec<String>,
}

impl<'c> Crowd<'c> {
    pub(super) fn new(scenario: &'c Scenario, server: &'c Server, media: Arc<Media>) -> Self {
        Self {
            scenario,
            server,
            media,
            rooms: Vec::new(),
            first_frames: Histogram::default(),
            failures: Vec::new(),
        }
    }

    fn way(&self) -> Way {
        let way = self.scenario.way;
        Way { loss: way.loss / 100.0, delay: Duration::from_millis(way.delay.into()) }
    }

    /// The moment at which the n-th joins.
    fn turn(&self, n: usize) -> Duration {
        Duration::from_secs_f64(n as f64 / self.scenario.join_rate)
    }

    pub(super) async fn open_rooms(&mut self) -> Result<(), ServerError> {
        for number in 0..self.scenario.rooms {
            let id = self.server.create_room(&format!("bench {number}")).await?;
            self.rooms.push(Room { id, ..Room::default() });
        }
        Ok(())
    }

    /// All publishers join and publish, one after the other in time but not waiting for each other.
    pub(super) async fn publish(&mut self) {
        let mut joining = JoinSet::new();
        let mut count = 0;
        for (number, room) in self.rooms.iter().enumerate() {
            for at in 0..self.scenario.publishers {
                let turn = self.turn(count);
                count += 1;
                let (server, way, id) = (self.server.clone(), self.way(), room.id.clone());
                let speaks = self.scenario.media.speaking.is_none_or(|speaking| at < speaking);
                let publication = self.media.publication(speaks);
                joining.spawn(async move {
                    tokio::time::sleep(turn).await;
                    let user = format!("publisher {number}-{at}");
                    let mut client = server.join(&id, &user, way, count as u64).await?;
                    let id = client.publish(publication.clone()).await?;
                    let stream = Some(Stream::new(id, &publication));
                    Ok::<_, ServerError>((number, Member { client, stream }))
                });
            }
        }
        while let Some(joined) = joining.join_next().await {
            match joined {
                Ok(Ok((number, member))) => self.rooms[number].publishers.push(member),
                Ok(Err(error)) => self.failures.push(format!("publisher: {error}")),
                Err(error) => self.failures.push(format!("publisher: {error}")),
            }
        }
    }

    /// Everybody receives what he is to receive.
    pub(super) async fn receive(&mut self) {
        let mut receiving = JoinSet::new();
        let mut count = 0;
        for number in 0..self.rooms.len() {
            let streams: Vec<Stream> =
                self.rooms[number].publishers.iter().filter_map(|member| member.stream.clone()).collect();
            let members = if self.scenario.meeting {
                std::mem::take(&mut self.rooms[number].publishers)
            } else {
                Vec::new()
            };
            for member in members {
                let own = member.stream.as_ref().map(|stream| stream.id.clone());
                let wishes = self.wishes(&streams, own.as_deref(), count);
                let turn = self.turn(count);
                count += 1;
                receiving.spawn(async move {
                    tokio::time::sleep(turn).await;
                    (number, true, subscribe(member, wishes).await)
                });
            }
            for at in 0..self.scenario.subscribers {
                let wishes = self.wishes(&streams, None, count);
                let turn = self.turn(count);
                count += 1;
                let (server, way, id) = (self.server.clone(), self.way(), self.rooms[number].id.clone());
                receiving.spawn(async move {
                    tokio::time::sleep(turn).await;
                    let joined =
                        server.join(&id, &format!("subscriber {number}-{at}"), way, count as u64).await;
                    let subscribed = match joined {
                        Ok(client) => subscribe(Member { client, stream: None }, wishes).await,
                        Err(error) => Err(error),
                    };
                    (number, false, subscribed)
                });
            }
        }
        while let Some(received) = receiving.join_next().await {
            match received {
                Ok((number, publishes, Ok((member, time)))) => {
                    self.first_frames.add(time);
                    let room = &mut self.rooms[number];
                    if publishes { &mut room.publishers } else { &mut room.subscribers }.push(member);
                }
                Ok((.., Err(error))) => self.failures.push(format!("subscriber: {error}")),
                Err(error) => self.failures.push(format!("subscriber: {error}")),
            }
        }
    }

    /// What the n-th receiver wants of all streams but its own. Who is seen large differs from one to the next.
    fn wishes(&self, streams: &[Stream], own: Option<&str>, n: usize) -> Vec<Wish> {
        let others: Vec<_> = streams.iter().filter(|stream| Some(stream.id.as_str()) != own).collect();
        let layers = &self.scenario.media.layers;
        let size = |at: usize| {
            let large = self.scenario.media.large?;
            let is_large = (at + others.len() - n % others.len().max(1)) % others.len().max(1) < large;
            let layer = if is_large { layers.last() } else { layers.first() }?;
            (layers.len() > 1).then_some((layer.width, layer.height))
        };
        others.iter().enumerate().map(|(at, stream)| stream.wish(size(at))).collect()
    }

    /// In the middle: some leave.
    pub(super) async fn some_leave(&mut self) {
        let leave = self.scenario.leave;
        let Some(room) = self.rooms.first_mut() else { return };
        let subscribers = room.subscribers.len();
        let leaving = room.subscribers.split_off(subscribers - leave.subscribers.min(subscribers));
        let publishers = room.publishers.len();
        let vanishing = room.publishers.split_off(publishers - leave.publishers.min(publishers));
        let left = join_all(leaving.into_iter().map(|member| member.client.leave()));
        let vanished = join_all(vanishing.into_iter().map(|member| member.client.vanish()));
        let (left, vanished) = tokio::join!(left, vanished);
        let failed = left.into_iter().chain(vanished).filter_map(Result::err);
        self.failures.extend(failed.map(|error| format!("leaving: {error}")));
    }

    /// The first publisher's room and stream.
    pub(super) fn first(&self) -> Option<(String, Stream)> {
        let room = self.rooms.first()?;
        Some((room.id.clone(), room.publishers.first()?.stream.clone()?))
    }

    /// How many publish, and how many only receive.
    pub(super) fn present(&self) -> (usize, usize) {
        let publish = self.rooms.iter().map(|room| room.publishers.len()).sum();
        (publish, self.rooms.iter().map(|room| room.subscribers.len()).sum())
    }

    pub(super) fn first_frames(&self) -> Histogram {
        self.first_frames.clone()
    }

    /// Everybody leaves, and the rooms are removed; what failed in all.
    pub(super) async fn leave(self) -> Vec<String> {
        let mut failures = self.failures;
        let members = self.rooms.into_iter().flat_map(|room| [room.publishers, room.subscribers]).flatten();
        let left = join_all(members.map(|member| member.client.leave())).await;
        failures.extend(left.into_iter().filter_map(Result::err).map(|error| format!("leaving: {error}")));
        self.server.delete_rooms().await;
        failures
    }
}

/// Subscribes; the time until there is a whole frame of everything.
async fn subscribe(mut member: Member, wishes: Vec<Wish>) -> Result<(Member, Duration), ServerError> {
    let began = Instant::now();
    if !wishes.is_empty() {
        member.client.subscribe(wishes).await?;
    }
    Ok((member, began.elapsed()))
}
