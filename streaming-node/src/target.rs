//! Where an output may go: file names that can't leave their folder, and servers that may be pushed to.

use std::{net::ToSocketAddrs, path::PathBuf, time::Duration};

use kaigi_outbound::Reach;
use kaigi_proto::v1::{self, output_description};
use url::{Host, Url};

use crate::{collection::Subject, container::Container};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Shortest and longest part of a segment: each is stored for itself, with the playlist.
const PARTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);

/// Longest name of a recording, in bytes.
const MAX_NAME: usize = 100;

/// What may be reached.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Folder of recordings.
    pub recordings: PathBuf,
    /// Which addresses may be pushed to.
    pub reach: Reach,
    /// Host names that may be pushed to; empty = all.
    pub allowed_hosts: Vec<String>,
    /// See [`Server::slate`].
    pub slate: Option<PathBuf>,
    /// Host names that may be pulled from; empty = all.
    pub ingest_hosts: Vec<String>,
    /// Folder of files that may be pulled, without links in its path; absent = none may be.
    pub ingest_files: Option<PathBuf>,
}

/// A target that may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Files.
    Recording {
        /// What their names begin with, with the folder.
        base: PathBuf,
        /// Their kind.
        container: Container,
        /// What they belong to.
        group: Option<Group>,
    },
    /// A live server.
    Broadcast(Server),
}

/// Recordings that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its manifest.
    pub manifest: PathBuf,
    /// Of this recording.
    pub subject: Subject,
}

/// Where a broadcast goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// How.
    pub protocol: Protocol,
    /// With credentials.
    pub url: String,
    /// What names may turn out to be.
    pub reach: Reach,
    /// Picture that is sent while the source is away; absent = a plain one.
    pub slate: Option<PathBuf>,
}

/// How a live server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP or RTMPS.
    Rtmp,
    /// MPEG-TS by SRT, as caller.
    Srt,
    /// RTSP (RFC 2326) with ANNOUNCE and RECORD.
    Rtsp,
    /// HTTP live streaming (RFC 8216) of MPEG-TS, stored by HTTP.
    Hls(Segments),
    /// Fragmented MP4 (ISO/IEC 23000-19), stored by HTTP.
    Cmaf(Fragments),
}

/// How fragmented MP4 is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragments {
    /// How it is cut.
    pub segments: Segments,
    /// What tells of it.
    pub manifest: Manifest,
    /// Longest part of a segment, where segments come in parts.
    pub part: Option<Duration>,
}

/// What tells players of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// Playlists (RFC 8216).
    Hls,
    /// A media presentation description (ISO/IEC 23009-1).
    Dash,
}

/// How a stream is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Files are stored by POST, not by PUT.
    pub by_post: bool,
    /// At least.
    pub duration: Duration,
    /// How many are listed.
    pub window: usize,
}

/// Why a target is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Neither a recording nor a broadcast.
    #[error("the output has no target")]
    None,
    /// Containers are mkv and mp4.
    #[error("container {0} can't be written")]
    Container(String),
    /// Its files would be elsewhere, or hidden.
    #[error("a recording can't be called {0:?}")]
    Name(String),
    /// Protocols are rtmp, srt, rtsp, hls and dash.
    #[error("protocol {0} can't be pushed")]
    Protocol(String),
    /// No URL of the protocol.
    #[error("the URL is none of the protocol")]
    Url,
    /// Segments of no sensible length or number.
    #[error("{0} can't be cut into segments so")]
    Segments(String),
    /// By the node's settings.
    #[error("pushing to {0} is not allowed")]
    NotAllowed(String),
    /// No such host.
    #[error("host {0} is not known")]
    UnknownHost(String),
}

impl Policy {
    /// Whether nothing that has an address is refused.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        self.reach == Reach::Any && self.allowed_hosts.is_empty() && self.ingest_hosts.is_empty()
    }

    /// Servers of the public internet, and no files but recordings.
    #[cfg(test)]
    pub(crate) fn closed(recordings: &str) -> Self {
        Self {
            recordings: recordings.into(),
            reach: Reach::Public,
            allowed_hosts: Vec::new(),
            slate: None,
            ingest_hosts: Vec::new(),
            ingest_files: None,
        }
    }

    /// Checks a target. Resolves host names: may block.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn check(
        &self,
        id: &str,
        target: Option<&output_description::Target>,
    ) -> Result<Target, TargetError> {
        match target {
            None => Err(TargetError::None),
            Some(output_description::Target::Recording(v1::RecordingTarget { container, group, name })) => {
                let prefix = prefix(name)?;
                let kind = Container::from_name(container);
                let container = kind.ok_or_else(|| TargetError::Container(container.clone()))?;
                // Ids are made of letters, digits, - and _ only.
                let Some(group) = group else {
                    let base = self.recordings.join(format!("{prefix}{id}"));
                    return Ok(Target::Recording { base, container, group: None });
                };
                let manifest = self.recordings.join(format!("{prefix}{}.json", group.id));
                let base = self.recordings.join(format!("{prefix}{}-{id}", group.id));
                let subject = Subject {
                    stream: group.stream_id.clone(),
                    participant: group.participant_id.clone(),
                    user: group.user.clone(),
                };
                Ok(Target::Recording { base, container, group: Some(Group { manifest, subject }) })
            }
            Some(output_description::Target::Broadcast(broadcast)) => {
                let protocol = protocol(broadcast)?;
                self.check_url(protocol, &broadcast.url)?;
                let (url, slate) = (broadcast.url.clone(), self.slate.clone());
                Ok(Target::Broadcast(Server { protocol, url, reach: self.reach, slate }))
            }
        }
    }

    fn check_url(&self, protocol: Protocol, url: &str) -> Result<(), TargetError> {
        let (host, port) = host_of(protocol, url).ok_or(TargetError::Url)?;
        self.check_host(&host, port, &self.allowed_hosts)
    }

    /// Whether a host is one of `allowed`, if that is not empty, and has no address that may not be reached. May block.
    ///
    /// # Errors
    /// [`TargetError::NotAllowed`] or [`TargetError::UnknownHost`].
    pub fn check_host(&self, host: &Host<String>, port: u16, allowed: &[String]) -> Result<(), TargetError> {
        let name = host.to_string();
        let name = name.trim_matches(['[', ']']);
        if !is_listed(name, allowed) {
            return Err(TargetError::NotAllowed(name.to_owned()));
        }
        if self.reach == Reach::Any {
            return Ok(());
        }
        let addresses =
            (name, port).to_socket_addrs().map_err(|_| TargetError::UnknownHost(name.to_owned()))?;
        for address in addresses {
            if !self.reach.includes(address.ip()) {
                return Err(TargetError::NotAllowed(name.to_owned()));
            }
        }
        Ok(())
    }
}

/// Whether a list of hosts, of which an empty one has all, has this name.
pub(crate) fn is_listed(name: &str, hosts: &[String]) -> bool {
    hosts.is_empty() || hosts.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// What names of files begin with.
fn prefix(name: &str) -> Result<String, TargetError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name {
        "" => Ok(String::new()),
        name if name.len() <= MAX_NAME && !name.starts_with('.') && name.chars().all(plain) => {
            Ok(format!("{name}-"))
        }
        other => Err(TargetError::Name(other.to_owned())),
    }
}

fn protocol(broadcast: &v1::BroadcastTarget) -> Result<Protocol, TargetError> {
    Ok(match broadcast.protocol.as_str() {
        "rtmp" => Protocol::Rtmp,
        "srt" => Protocol::Srt,
        "rtsp" => Protocol::Rtsp,
        "hls" => hls(broadcast.segments.as_ref())?,
        "dash" => Protocol::Cmaf(Fragments {
            segments: segments(broadcast.segments.as_ref())?,
            manifest: Manifest::Dash,
            part: None,
        }),
        other => return Err(TargetError::Protocol(other.to_owned())),
    })
}

/// In parts it is fragmented MP4 in any case.
fn hls(options: Option<&v1::SegmentOptions>) -> Result<Protocol, TargetError> {
    let segments = segments(options)?;
    let (container, part_ms) =
        options.map_or(("", 0), |options| (options.container.as_str(), options.part_ms));
    let part = Duration::from_millis(part_ms.into());
    let (is_part, manifest) = (PARTS.contains(&part) && part < segments.duration, Manifest::Hls);
    Ok(match (container, part_ms) {
        ("" | "mpegts", 0) => Protocol::Hls(segments),
        ("fmp4", 0) => Protocol::Cmaf(Fragments { segments, manifest, part: None }),
        ("" | "fmp4", _) if is_part => Protocol::Cmaf(Fragments { segments, manifest, part: Some(part) }),
        ("" | "fmp4", _) => return Err(TargetError::Segments(format!("parts of {part_ms} ms"))),
        (other, _) => return Err(TargetError::Segments(other.to_owned())),
    })
}

fn segments(options: Option<&v1::SegmentOptions>) -> Result<Segments, TargetError> {
    let default = v1::SegmentOptions::default();
    let options = options.unwrap_or(&default);
    let duration = if options.duration_ms == 0 { 2_000 } else { options.duration_ms };
    let window = if options.window == 0 { 5 } else { options.window as usize };
    let by_post = match options.method.as_str() {
        "" | "PUT" => false,
        "POST" => true,
        other => return Err(TargetError::Segments(other.to_owned())),
    };
    if !(1_000..=60_000).contains(&duration) {
        return Err(TargetError::Segments(format!("{duration} ms")));
    }
    if !(1..=100).contains(&window) {
        return Err(TargetError::Segments(format!("a list of {window}")));
    }
    Ok(Segments { by_post, duration: Duration::from_millis(duration.into()), window })
}

/// Host and port of a URL that names a stream by a protocol.
fn host_of(protocol: Protocol, text: &str) -> Option<(Host<String>, u16)> {
    if text.len() > MAX_URL || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let has_path = url.path().len() > 1;
    let standard = match (protocol, url.scheme()) {
        (Protocol::Rtmp, "rtmp") if has_path => Some(1935),
        (Protocol::Rtmp, "rtmps") if has_path => Some(443),
        (Protocol::Rtsp, "rtsp") if has_path => Some(554),
        (Protocol::Rtsp, "rtsps") if has_path => Some(322),
        (Protocol::Hls(_) | Protocol::Cmaf(_), "http") if names_manifest(protocol, &url) => Some(80),
        (Protocol::Hls(_) | Protocol::Cmaf(_), "https") if names_manifest(protocol, &url) => Some(443),
        // No standard port, and only what a caller may say.
        (Protocol::Srt, "srt") if url.query_pairs().all(|(name, value)| srt_option(&name, &value)) => None,
        _ => return None,
    };
    Some((host_of_url(&url)?, url.port().or(standard)?))
}

/// Whether the file that it names can be the one that tells of the others.
fn names_manifest(protocol: Protocol, url: &Url) -> bool {
    match protocol {
        Protocol::Cmaf(Fragments { manifest: Manifest::Dash, .. }) => url.path().ends_with(".mpd"),
        _ => url.path().ends_with(".m3u8"),
    }
}

/// The host of a URL. That of another scheme than those of the web is not normalized: a name is looked up as it is.
pub(crate) fn host_of_url(url: &Url) -> Option<Host<String>> {
    Some(match url.host()? {
        Host::Domain("") => return None,
        Host::Domain(name) => match name.parse() {
            Ok(v4) => Host::Ipv4(v4),
            Err(_) => Host::Domain(name.to_owned()),
        },
        host => host.to_owned(),
    })
}

/// Whether it is one of those that make sense for a caller by SRT.
pub(crate) fn srt_option(name: &str, value: &str) -> bool {
    match name {
        "streamid" | "passphrase" => true,
        "latency" | "pbkeylen" => value.parse::<u32>().is_ok(),
        "mode" => value == "caller",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::closed("/r")
    }

    fn broadcast(protocol: &str, url: &str) -> output_description::Target {
        output_description::Target::Broadcast(v1::BroadcastTarget {
            protocol: protocol.into(),
            url: url.into(),
            segments: None,
        })
    }

    #[test]
    fn a_recordings_name_is_before_its_id_and_never_leaves_the_folder() {
        let check = |name: &str, group: Option<v1::RecordingGroup>| {
            let target = v1::RecordingTarget { container: "mkv".into(), group, name: name.into() };
            policy().check("7", Some(&output_description::Target::Recording(target)))
        };
        let base = |name: &str| match check(name, None)? {
            Target::Recording { base, .. } => Ok(base),
            Target::Broadcast(_) => panic!("no recording"),
        };
        assert_eq!(base(""), Ok("/r/7".into()));
        assert_eq!(base("weekly_2.b"), Ok("/r/weekly_2.b-7".into()));
        let group = v1::RecordingGroup { id: "9".into(), ..Default::default() };
        let Ok(Target::Recording { base: each, group: Some(group), .. }) = check("all", Some(group)) else {
            panic!("refused")
        };
        assert_eq!((each, group.manifest), ("/r/all-9-7".into(), "/r/all-9.json".into()));
        for bad in ["..", ".hidden", "a/b", "/etc/x", "a\\b", "a b", "é", "\0", &"x".repeat(101)] {
            assert_eq!(base(bad), Err(TargetError::Name(bad.into())));
        }
    }

    #[test]
    fn what_is_no_url_of_the_protocol_is_refused() {
        for (protocol, bad) in [
            ("rtmp", ""),
            ("rtmp", "rtmp://"),
            ("rtmp", "rtmp://h"),
            ("rtmp", "rtmp://h/"),
            ("rtmp", "http://h/a/b"),
            ("rtmp", "rtmp:///a/b"),
            ("rtmp", "rtmp://h:x/a"),
            ("rtmp", "rtmp://h/a b"),
            ("rtmp", "rtmp://[::1/a"),
            ("rtsp", "rtsp://h"),
            ("rtsp", "rtmp://h/a"),
            ("srt", "srt://h"),
            ("srt", "srt://h:9999?mode=listener"),
            ("srt", "srt://h:9999?localaddress=0.0.0.0"),
            ("hls", "https://h/a.mpd"),
            ("hls", "file:///etc/a.m3u8"),
            ("dash", "https://h/a.m3u8"),
            ("dash", "file:///etc/a.mpd"),
        ] {
            let refused = policy().check("id", Some(&broadcast(protocol, bad)));
            assert_eq!(refused, Err(TargetError::Url), "{bad}");
        }
        let other = policy().check("id", Some(&broadcast("gopher", "gopher://h/a")));
        assert_eq!(other, Err(TargetError::Protocol("gopher".into())));
    }

    #[test]
    fn inner_networks_are_out_of_reach_unless_allowed() {
        for (protocol, url) in [
            ("rtmp", "rtmp://127.0.0.1/a/b"),
            ("rtmp", "rtmp://10.1.2.3/a/b"),
            ("rtmp", "rtmp://[::1]:1935/a/b"),
            ("rtmp", "rtmp://169.254.169.254/a/b"),
            ("rtmp", "rtmp://[::ffff:192.168.0.1]/a/b"),
            ("rtmp", "rtmp://localhost/a/b"),
            ("rtmp", "rtmp://0.0.0.0/a/b"),
            ("rtmp", "rtmp://user:pw@100.64.1.1/a/b"),
            ("rtsp", "rtsp://192.168.1.1/a"),
            ("srt", "srt://127.0.0.1:9999?streamid=a"),
            ("hls", "http://127.0.0.1/a.m3u8"),
            ("hls", "http://2130706433/a.m3u8"),
            ("dash", "http://127.0.0.1/a.mpd"),
        ] {
            let refused = policy().check("id", Some(&broadcast(protocol, url)));
            assert!(matches!(refused, Err(TargetError::NotAllowed(_))), "{url}: {refused:?}");
            let open = Policy { reach: Reach::Any, ..policy() };
            let Ok(Target::Broadcast(server)) = open.check("id", Some(&broadcast(protocol, url))) else {
                panic!("{url} is refused");
            };
            assert_eq!(server.url, url);
        }
        assert!(policy().check("id", Some(&broadcast("rtmp", "rtmp://8.8.8.8/a/b"))).is_ok());
    }

    #[test]
    fn a_list_of_hosts_leaves_out_all_others() {
        let policy = Policy { allowed_hosts: vec!["live.example".into()], reach: Reach::Any, ..policy() };
        assert!(policy.check("id", Some(&broadcast("rtmp", "rtmp://live.example/a/b"))).is_ok());
        assert!(policy.check("id", Some(&broadcast("rtmp", "rtmp://live.example.evil/a/b"))).is_err());
    }

    #[test]
    fn segments_have_bounds() {
        let cut = |method: &str, duration_ms, window| {
            segments(Some(&v1::SegmentOptions {
                method: method.into(),
                duration_ms,
                window,
                ..Default::default()
            }))
        };
        let usual = Segments { by_post: false, duration: Duration::from_secs(2), window: 5 };
        assert_eq!(segments(None), Ok(usual));
        assert_eq!(cut("PUT", 0, 0), Ok(usual));
        assert!(cut("POST", 6_000, 10).is_ok_and(|segments| segments.by_post && segments.window == 10));
        for bad in [cut("GET", 2_000, 5), cut("PUT", 100, 5), cut("PUT", 100_000, 5), cut("PUT", 2_000, 101)]
        {
            assert!(matches!(bad, Err(TargetError::Segments(_))));
        }
    }
    #[test]
    fn hls_is_of_either_container_and_parts_are_of_mp4() {
        let of = |container: &str, part_ms| {
            hls(Some(&v1::SegmentOptions { container: container.into(), part_ms, ..Default::default() }))
        };
        let segments = segments(None).unwrap();
        let mp4 = |part| Ok(Protocol::Cmaf(Fragments { segments, manifest: Manifest::Hls, part }));
        let half = Some(Duration::from_millis(500));
        assert_eq!(of("", 0), Ok(Protocol::Hls(segments)));
        assert_eq!(of("mpegts", 0), Ok(Protocol::Hls(segments)));
        assert_eq!((of("fmp4", 0), of("fmp4", 500), of("", 500)), (mp4(None), mp4(half), mp4(half)));
        for bad in [of("ogg", 0), of("mpegts", 500), of("fmp4", 100), of("fmp4", 2_000), of("fmp4", 6_000)] {
            assert!(matches!(bad, Err(TargetError::Segments(_))), "{bad:?}");
        }
    }
}
