//! Somebody in the conference who does all the time what people do: says something, looks whether pictures come, and does what a client
//! does when it loses something.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::diary::{Call, Diary, Told, What};
use crate::{
    media::{Media, Stream},
    peer::Content,
    recording::Codec,
    server::{Kaigi, Participant, ServerError, Way, Wish},
    signaling::SignalingError,
};

/// From one request to the next.
const BEAT: Duration = Duration::from_millis(100);
/// Longest wait for an answer, and for media; clients of OWT wait as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client tries to come back before it joins anew.
const COMING_BACK: Duration = Duration::from_secs(15);

/// What all of them share.
#[derive(Clone)]
pub(super) struct Conference {
    pub(super) kaigi: Kaigi,
    pub(super) room: String,
    pub(super) mixed: String,
    pub(super) media: Arc<Media>,
    /// What the speaker publishes at the moment.
    pub(super) speaks: watch::Sender<Option<Stream>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Publishes.
    Speaker,
    /// Receives what the speaker publishes, and the mix.
    Listener,
}

pub(super) struct Guest {
    conference: Conference,
    role: Role,
    name: String,
    participant: Participant,
    hears: watch::Receiver<Option<Stream>>,
    /// On which m-line what comes.
    lines: Vec<(String, What)>,
    /// What is published or subscribed does not work any more.
    lost: bool,
    diary: Arc<Mutex<Diary>>,
}

impl Guest {
    /// Joins, and publishes or subscribes.
    pub(super) async fn join(
        conference: Conference,
        role: Role,
        name: String,
    ) -> Result<(Self, Arc<Mutex<Diary>>), ServerError> {
        let participant =
            conference.kaigi.join(&conference.room, &name, Way::default(), rand::random()).await?;
        let (hears, diary) = (conference.speaks.subscribe(), Arc::<Mutex<Diary>>::default());
        let lines = Vec::new();
        let mut guest =
            Self { conference, role, name, participant, hears, lines, lost: false, diary: diary.clone() };
        guest.begin().await?;
        Ok((guest, diary))
    }

    /// Lives until `stop`, then leaves.
    pub(super) async fn live(mut self, stop: CancellationToken) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            beat.tick().await;
            let lived = async {
                self.speak().await;
                self.look().await;
            };
            tokio::select! {
                () = lived => {}
                () = stop.cancelled() => break,
            }
        }
        // Whether or not there is still somebody to tell.
        let _ = timeout(PATIENCE, self.participant.leave()).await;
    }

    fn note(&self, what: impl FnOnce(&mut Diary)) {
        what(&mut self.diary.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One request.
    async fn speak(&mut self) {
        let made = Instant::now();
        let said = timeout(PATIENCE, self.participant.say("hello")).await;
        let granted = matches!(said, Ok(Ok(())));
        self.note(|diary| diary.calls.push(Call { made, answered: Instant::now(), granted }));
        match said {
            Ok(Ok(())) => {}
            Ok(Err(ServerError::Signaling(SignalingError::Ended))) => self.come_back().await,
            Ok(Err(error)) => self.note(|diary| diary.error(error)),
            Err(_) => self.note(|diary| diary.error("a request was not answered in time")),
        }
    }

    /// The connection has ended.
    async fn come_back(&mut self) {
        let ended = Instant::now();
        while ended.elapsed() < COMING_BACK {
            match timeout(PATIENCE, self.participant.come_back()).await {
                Ok(Ok(())) => return self.note(|diary| diary.came_back += 1),
                Ok(Err(ServerError::Signaling(SignalingError::Refused { reason, .. }))) => {
                    self.note(|diary| diary.error(format!("relogin: {reason}")));
                    break;
                }
                Ok(Err(_)) | Err(_) => tokio::time::sleep(BEAT).await,
            }
        }
        let Conference { kaigi, room, .. } = &self.conference;
        match timeout(PATIENCE, kaigi.join(room, &self.name, Way::default(), rand::random())).await {
            Ok(Ok(fresh)) => {
                let before = std::mem::replace(&mut self.participant, fresh);
                // Its thread goes on as long as this program.
                let _ = before.vanish().await;
                self.lost = true;
            }
            Ok(Err(error)) => self.note(|diary| diary.error(format!("joining: {error}"))),
            Err(_) => self.note(|diary| diary.error("joining: not in time")),
        }
    }

    /// What comes, and whether all of it still does.
    async fn look(&mut self) {
        let failed = !self.participant.failed_sessions().is_empty();
        let changed = self.role == Role::Listener && self.hears.has_changed().unwrap_or(false);
        self.lost |= failed || changed || self.participant.peer.has_ended();
        if self.lost {
            self.begin_anew().await;
        }
        let lines = self.lines.clone();
        let told = self
            .participant
            .peer
            .call(move |peer, now| {
                let mut told = Vec::new();
                for (mid, receiver) in peer.receivers_mut() {
                    let Some((_, what)) = lines.iter().find(|(line, _)| line == mid) else { continue };
                    told.push(Told {
                        what: *what,
                        first: receiver.first_frame(),
                        last: receiver.last_frame(),
                        gap: receiver.take_longest_gap(),
                        lost: std::mem::take(&mut receiver.counts.lost),
                    });
                }
                (now, told)
            })
            .await;
        match told {
            Ok((now, told)) => self.note(|diary| {
                for told in told {
                    diary.lines.entry(told.what).or_default().note(now, &told);
                }
            }),
            Err(error) => self.note(|diary| diary.error(error)),
        }
    }

    async fn begin_anew(&mut self) {
        let kaigi = self.conference.kaigi.clone();
        let begun = async {
            self.participant.begin_anew(&kaigi).await?;
            self.begin().await
        };
        match timeout(PATIENCE, begun).await {
            Ok(Ok(())) => {
                self.lost = false;
                self.note(|diary| diary.began_anew += 1);
            }
            Ok(Err(error)) => self.note(|diary| diary.error(error)),
            Err(_) => self.note(|diary| diary.error("no media in time")),
        }
    }

    /// Publishes or subscribes.
    async fn begin(&mut self) -> Result<(), ServerError> {
        let Conference { kaigi, room, mixed, media, speaks } = &self.conference;
        if self.role == Role::Speaker {
            let publication = media.publication(true);
            let id = self.participant.publish(publication.clone()).await?;
            kaigi.mix(room, &id).await?;
            speaks.send_replace(Some(Stream::new(id, &publication)));
            return Ok(());
        }
        let stream = self.hears.borrow_and_update().clone();
        let stream = stream.ok_or_else(|| ServerError::Media("nobody publishes".to_owned()))?;
        let mix =
            Wish { stream: mixed.clone(), video: Some((Content::Unknown(Codec::Vp8), None)), audio: None };
        let mids = self.participant.subscribe(vec![stream.wish(None), mix]).await?;
        self.participant.peer.first_frames(&mids).await?;
        // The mix was wished for last, and of it only the picture.
        let last = mids.len() - 1;
        let what = |at: usize| if at == last { What::Mixed } else { What::Forward };
        self.lines = mids.into_iter().enumerate().map(|(at, mid)| (mid, what(at))).collect();
        Ok(())
    }
}
