//! All tracks that this node produces, behind one UDP socket.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_media::link::LinkError;
use kaigi_proto::{
    ids::{AttachmentId, IdError, TrackId},
    v1,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use kaigi_intake::{MAX_DATAGRAM, bind};

use crate::{OutputTrack, TrackDescription};

/// Attachments of this node at most. One takes some kilobytes, and each costs a copy of its track.
const MAX_ATTACHMENTS: usize = 2000;
/// Between sender reports.
const TICK: Duration = Duration::from_secs(1);

/// Why a track can't be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// An id is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// This node does not produce it.
    #[error("no such track")]
    UnknownTrack,
    /// Keys or address are unusable.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The node has as many attachments as it takes.
    #[error("this node has as many attachments as it can bear")]
    Full,
}

impl From<AttachError> for tonic::Status {
    fn from(error: AttachError) -> Self {
        let text = error.to_string();
        match error {
            AttachError::Id(_) | AttachError::Link(_) => Self::invalid_argument(text),
            AttachError::UnknownTrack => Self::not_found(text),
            AttachError::Full => Self::resource_exhausted(text),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outputs {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    tracks: HashMap<TrackId, Arc<OutputTrack>>,
    attachments: HashMap<AttachmentId, Route>,
}

/// Where an attachment's RTCP comes from and goes to.
#[derive(Clone, Debug)]
struct Route {
    from: SocketAddr,
    ssrc: u32,
    track: Arc<OutputTrack>,
}

impl Outputs {
    /// No tracks yet; the socket is on a free port of `address`.
    ///
    /// # Errors
    /// If the address is not of this machine.
    pub fn bind(address: IpAddr) -> io::Result<Self> {
        let socket = bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Arc::new(socket), address, registry: Mutex::default() })
    }

    /// Makes a track that can be attached from now on.
    pub fn add(&self, description: TrackDescription) -> Arc<OutputTrack> {
        let track = Arc::new(OutputTrack::new(description, Arc::clone(&self.socket)));
        self.registry.lock().tracks.insert(track.description().id.clone(), Arc::clone(&track));
        track
    }

    /// Ends a track and all its attachments.
    pub fn remove(&self, track: &Arc<OutputTrack>) {
        let mut registry = self.registry.lock();
        registry.attachments.retain(|_, route| !Arc::ptr_eq(&route.track, track));
        let id = &track.description().id;
        if registry.tracks.get(id).is_some_and(|present| Arc::ptr_eq(present, track)) {
            registry.tracks.remove(id);
        }
    }

    /// The track with that id.
    #[must_use]
    pub fn track(&self, id: &TrackId) -> Option<Arc<OutputTrack>> {
        self.registry.lock().tracks.get(id).cloned()
    }

    /// Starts the flow of a track. Asking again with the same attachment id and request changes nothing.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, request: &v1::AttachRequest, now: Instant) -> Result<v1::AttachReply, AttachError> {
        let id = AttachmentId::new(&request.attachment_id)?;
        let track_id = TrackId::new(&request.track_id)?;
        let from = request
            .consumer_address
            .parse()
            .map_err(|_| LinkError::BadRequest("consumer_address is no socket address"))?;
        let mut registry = self.registry.lock();
        let track = Arc::clone(registry.tracks.get(&track_id).ok_or(AttachError::UnknownTrack)?);
        let present = registry.attachments.get(&id);
        let same = present.is_some_and(|route| {
            Arc::ptr_eq(&route.track, &track) && (route.from, route.ssrc) == (from, request.ssrc)
        });
        if !same {
            if present.is_none() && registry.attachments.len() >= MAX_ATTACHMENTS {
                return Err(AttachError::Full);
            }
            track.attach(id.clone(), request, now)?;
            let route = Route { from, ssrc: request.ssrc, track: Arc::clone(&track) };
            if let Some(old) = registry.attachments.insert(id.clone(), route)
                && !Arc::ptr_eq(&old.track, &track)
            {
                old.track.detach(&id);
            }
        }
        let description = track.description();
        Ok(v1::AttachReply {
            producer_address: self.address.to_string(),
            format: Some(description.format.clone()),
            payload_type: description.payload_type.into(),
            dependency_descriptor_id: 0,
            audio_level_id: 0,
            clock_rate: description.clock.rate,
        })
    }

    /// Ends a flow; one that is not there is fine.
    pub fn detach(&self, id: &AttachmentId) {
        let route = self.registry.lock().attachments.remove(id);
        if let Some(route) = route {
            route.track.detach(id);
        }
    }

    /// What is counted of those of the tracks that are made here.
    #[must_use]
    pub fn stats(&self, tracks: &[TrackId], now: Instant) -> Vec<v1::TrackStats> {
        let here: Vec<_> = {
            let registry = self.registry.lock();
            tracks.iter().filter_map(|id| registry.tracks.get(id).cloned()).collect()
        };
        here.iter().map(|track| track.stats(now)).collect()
    }

    /// Receives feedback and sends reports until `stop` is cancelled.
    ///
    /// # Errors
    /// If the socket can't be used.
    pub async fn run(&self, stop: CancellationToken) -> io::Result<()> {
        let socket = tokio::net::UdpSocket::from_std(self.socket.try_clone()?)?;
        let mut datagram = vec![0; MAX_DATAGRAM];
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => self.tick(Instant::now()),
                // Errors are ICMP answers to what was sent earlier.
                received = socket.recv_from(&mut datagram) => if let Ok((length, from)) = received {
                    self.feedback(&datagram[..length], from, Instant::now());
                }
            }
        }
    }

    fn tick(&self, now: Instant) {
        let tracks: Vec<_> = self.registry.lock().tracks.values().cloned().collect();
        let ended: Vec<_> = tracks.iter().flat_map(|track| track.tick(now)).collect();
        let mut registry = self.registry.lock();
        for id in ended {
            tracing::debug!(attachment = %id, "consumer is silent, attachment ended");
            registry.attachments.remove(&id);
        }
        metrics::gauge!("kaigi_supply_tracks").set(registry.tracks.len() as f64);
        metrics::gauge!("kaigi_supply_attachments").set(registry.attachments.len() as f64);
    }

    /// Hands a datagram to the attachment whose it is: the one from that address whose SSRC it names as its sender, else any
    /// from that address that finds it authentic.
    fn feedback(&self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let Some(sender) = datagram.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
        else {
            return;
        };
        let candidates: Vec<(AttachmentId, Route)> = {
            let registry = self.registry.lock();
            let here = registry.attachments.iter().filter(|(_, route)| route.from == from);
            let pairs = here.map(|(id, route)| (id.clone(), route.clone()));
            let (mut named, others): (Vec<_>, Vec<_>) = pairs.partition(|(_, route)| route.ssrc == sender);
            named.extend(others);
            named
        };
        let _taken = candidates.iter().any(|(id, route)| route.track.feedback(id, datagram, now));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kaigi_media::link::{CONSUMER_TIMEOUT, FromProducer, LinkConsumer, LinkKeys};
    use kaigi_media::rtp::write_header;

    use super::*;
    use crate::MediaClock;

    const CONSUMER: &str = "127.0.0.1:40000";

    fn outputs() -> (Outputs, Arc<OutputTrack>) {
        let outputs = Outputs::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let track = outputs.add(TrackDescription {
            id: TrackId::new("t").unwrap(),
            kind: v1::MediaKind::Video,
            format: v1::MediaFormat { codec: "vp8".into(), ..Default::default() },
            payload_type: 96,
            clock: MediaClock::new(Instant::now(), 90_000),
            audience: Arc::default(),
        });
        (outputs, track)
    }
    fn request(keys: &LinkKeys, id: &str, ssrc: u32) -> v1::AttachRequest {
        keys.attach_request(id, "t", CONSUMER.parse().unwrap(), ssrc)
    }

    #[test]
    fn an_attachment_names_where_the_track_comes_from_and_how() {
        let (outputs, track) = outputs();
        assert!(!track.has_listeners());
        let reply = outputs.attach(&request(&LinkKeys::random(), "a", 5), Instant::now()).unwrap();
        assert_eq!((reply.payload_type, reply.clock_rate), (96, 90_000));
        assert_eq!(reply.producer_address, outputs.address.to_string());
        assert_eq!(reply.format.unwrap().codec, "vp8");
        assert!(track.has_listeners() && track.take_key_frame_request());
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let (outputs, track) = outputs();
        let asked = request(&LinkKeys::random(), "a", 5);
        outputs.attach(&asked, Instant::now()).unwrap();
        assert!(track.take_key_frame_request());
        outputs.attach(&asked, Instant::now()).unwrap();
        assert!(!track.take_key_frame_request());
        outputs.detach(&AttachmentId::new("a").unwrap());
        outputs.detach(&AttachmentId::new("a").unwrap());
        assert!(!track.has_listeners());
    }

    #[test]
    fn bad_requests_are_refused() {
        let (outputs, _) = outputs();
        let good = request(&LinkKeys::random(), "a", 5);
        let refused = |change: fn(&mut v1::AttachRequest)| {
            let mut request = good.clone();
            change(&mut request);
            outputs.attach(&request, Instant::now()).unwrap_err()
        };
        assert!(matches!(refused(|r| r.track_id = "other".into()), AttachError::UnknownTrack));
        assert!(matches!(refused(|r| r.track_id = String::new()), AttachError::Id(_)));
        assert!(matches!(refused(|r| r.consumer_address = "nowhere".into()), AttachError::Link(_)));
        assert!(matches!(refused(|r| r.producer_key = vec![1]), AttachError::Link(_)));
    }

    #[test]
    fn attachments_are_bounded() {
        let (outputs, track) = outputs();
        let keys = LinkKeys::random();
        for number in 0..MAX_ATTACHMENTS {
            outputs.attach(&request(&keys, &format!("a{number}"), 5), Instant::now()).unwrap();
        }
        let one_more = outputs.attach(&request(&keys, "b", 5), Instant::now());
        assert!(matches!(one_more, Err(AttachError::Full)));
        outputs.remove(&track);
        assert!(outputs.registry.lock().attachments.is_empty());
    }

    #[test]
    fn feedback_finds_its_attachment_and_silence_ends_it() {
        let (outputs, track) = outputs();
        let now = Instant::now();
        let (a, b) = (LinkKeys::random(), LinkKeys::random());
        outputs.attach(&request(&a, "a", 5), now).unwrap();
        outputs.attach(&request(&b, "b", 6), now).unwrap();
        assert!(track.take_key_frame_request());
        let mut consumer = LinkConsumer::new(&b, 6).unwrap();
        let later = now + CONSUMER_TIMEOUT / 2;
        outputs.feedback(&consumer.request_key_frame().unwrap(), CONSUMER.parse().unwrap(), later);
        assert!(track.take_key_frame_request());
        outputs.feedback(&[0; 40], CONSUMER.parse().unwrap(), later);
        outputs.feedback(&[0; 3], CONSUMER.parse().unwrap(), later);
        outputs.tick(now + CONSUMER_TIMEOUT);
        let left: Vec<String> = outputs.registry.lock().attachments.keys().map(ToString::to_string).collect();
        assert_eq!(left, ["b"]);
        outputs.tick(later + CONSUMER_TIMEOUT);
        assert!(!track.has_listeners());
    }

    #[test]
    fn what_is_made_is_counted_once_however_many_take_it() {
        let (outputs, track) = outputs();
        let id = track.description().id.clone();
        let now = Instant::now();
        let send = |n: u16| {
            let mut packet = Vec::new();
            // Two packets a picture, 30 pictures a second.
            write_header(&mut packet, n % 2 == 1, 96, n, u32::from(n / 2) * 3000, 0);
            packet.resize(1000, 0);
            track.send(&packet, now + Duration::from_millis(u64::from(n) * 50 / 3));
        };
        (0..10).for_each(send);
        let nobody = outputs.stats(&[id.clone(), TrackId::new("other").unwrap()], now);
        assert_eq!(nobody.len(), 1, "those that are not made here are left out");
        assert_eq!((nobody[0].packets, nobody[0].takers, nobody[0].flowing), (0, 0, false));
        outputs.attach(&request(&LinkKeys::random(), "a", 5), now).unwrap();
        outputs.attach(&request(&LinkKeys::random(), "b", 6), now).unwrap();
        track.set_size(640, 480);
        track.count_key_frame();
        (10..130).for_each(send);
        let [told] = &outputs.stats(std::slice::from_ref(&id), now + Duration::from_millis(2166))[..] else {
            panic!()
        };
        assert_eq!((told.track_id.as_str(), told.kind()), ("t", v1::MediaKind::Video));
        assert_eq!((told.packets, told.bytes, told.frames, told.key_frames), (120, 120_000, 60, 1));
        assert_eq!((told.takers, told.flowing, told.packets_lost), (2, true, 0));
        assert_eq!(told.resolution, Some(v1::Resolution { width: 640, height: 480 }));
        assert!((told.frame_rate - 30.0).abs() < 2.0, "{}", told.frame_rate);
        assert!((told.bitrate as f64 / 480_000.0 - 1.0).abs() < 0.1, "{}", told.bitrate);
    }

    #[test]
    fn each_consumer_gets_the_packets_under_its_own_ssrc() {
        let (outputs, track) = outputs();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        let mut ends: Vec<LinkConsumer> = [7, 8]
            .into_iter()
            .map(|ssrc| {
                let keys = LinkKeys::random();
                let request = keys.attach_request(&format!("a{ssrc}"), "t", address, ssrc);
                outputs.attach(&request, Instant::now()).unwrap();
                LinkConsumer::new(&keys, ssrc).unwrap()
            })
            .collect();
        let mut packet = Vec::new();
        write_header(&mut packet, true, 96, 9, 10, 0);
        packet.extend_from_slice(b"picture");
        track.send(&packet, Instant::now());
        assert_eq!(track.next_sequence(), 10);
        let mut datagram = [0; 200];
        for end in &mut ends {
            let length = socket.recv(&mut datagram).unwrap();
            assert!(matches!(end.unprotect(&datagram[..length]), Ok(FromProducer::Rtp(_))));
        }
    }
}
