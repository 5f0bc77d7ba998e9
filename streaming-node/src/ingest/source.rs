//! Where an input may come from.

use std::path::{Path, PathBuf};

use kaigi_proto::{redact, v1};
use url::Url;

use super::pace::Pace;
use crate::target::{Policy, TargetError, host_of_url, srt_option};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;
/// Lengths of stream keys.
const MIN_KEY: usize = 16;
/// Passphrases of SRT are not longer.
const MAX_KEY: usize = 79;

/// A source that may be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How.
    pub way: Way,
    /// With credentials; of a file its path; of what is pushed its key.
    pub url: String,
}

/// How a source is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// RTSP (RFC 2326).
    Rtsp {
        /// Media by UDP, not within the connection.
        udp: bool,
        /// Bytes of the UDP socket's buffer; 0 = the system's.
        buffer: u32,
    },
    /// RTMP or RTMPS.
    Rtmp,
    /// MPEG-TS by SRT, as caller.
    Srt,
    /// HTTP live streaming (RFC 8216).
    Hls,
    /// A file by HTTP.
    Http,
    /// A file of this machine.
    File,
    /// Nowhere: an encoder pushes it here, by RTMP.
    PushedRtmp,
    /// The same by SRT.
    PushedSrt,
}

impl Way {
    /// How fast it gives what it has.
    #[must_use]
    pub fn pace(self) -> Pace {
        match self {
            Self::Rtsp { .. } | Self::Rtmp | Self::Srt | Self::PushedRtmp | Self::PushedSrt => Pace::Live,
            Self::Hls | Self::Http | Self::File => Pace::Stored,
        }
    }
}

/// Why a source is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// No URL that anything can be pulled from.
    #[error("nothing can be pulled from such a URL")]
    Url,
    /// By the node's settings.
    #[error("pulling from {0} is not allowed")]
    NotAllowed(String),
    /// No such host.
    #[error("host {0} is not known")]
    UnknownHost(String),
    /// Not below the folder for that, or there is no such folder.
    #[error("there is no such file")]
    NoFile,
    /// By the node's settings.
    #[error("nothing can be pushed here: {0} is not set")]
    NoDoor(&'static str),
    /// Others have all that there are.
    #[error("no port is free for what is pushed by SRT")]
    NoPort,
    /// RTMP and SRT there are.
    #[error("nothing can be pushed by {0}")]
    NoProtocol(String),
    /// One that could be guessed, or is none.
    #[error("a stream key has {MIN_KEY} to {MAX_KEY} letters, digits, - and _")]
    Key,
}

impl Source {
    /// Checks what a description names. Resolves host names and looks for files: may block.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn check(policy: &Policy, description: &v1::InputDescription) -> Result<Self, SourceError> {
        let text = &description.url;
        if !description.listen_key.is_empty() {
            return pushed(description);
        }
        if text.len() > MAX_URL || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(SourceError::Url);
        }
        let url = Url::parse(text).map_err(|_| SourceError::Url)?;
        let has_path = url.path().len() > 1;
        let (way, port) = match url.scheme() {
            "rtsp" | "rtsps" => {
                let way = Way::Rtsp { udp: description.udp, buffer: description.buffer_size };
                (way, if url.scheme() == "rtsp" { 554 } else { 322 })
            }
            "rtmp" if has_path => (Way::Rtmp, 1935),
            "rtmps" if has_path => (Way::Rtmp, 443),
            "srt" => {
                if url.port().is_none() || !url.query_pairs().all(|(name, value)| srt_option(&name, &value)) {
                    return Err(SourceError::Url);
                }
                (Way::Srt, 0)
            }
            "http" | "https" => {
                let way = if url.path().ends_with(".m3u8") { Way::Hls } else { Way::Http };
                (way, if url.scheme() == "http" { 80 } else { 443 })
            }
            "file" if url.host().is_none() => return file(policy, &url),
            _ => return Err(SourceError::Url),
        };
        let host = host_of_url(&url).ok_or(SourceError::Url)?;
        let port = url.port().unwrap_or(port);
        policy.check_host(&host, port, &policy.ingest_hosts).map_err(|error| match error {
            TargetError::UnknownHost(host) => SourceError::UnknownHost(host),
            _ => SourceError::NotAllowed(host.to_string()),
        })?;
        Ok(Self { way, url: text.clone() })
    }

    /// What may be logged of it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.way {
            Way::File => self.url.clone(),
            Way::PushedRtmp | Way::PushedSrt => "(pushed)".to_owned(),
            _ => redact::url(&self.url),
        }
    }
}

fn pushed(description: &v1::InputDescription) -> Result<Source, SourceError> {
    let key = &description.listen_key;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !description.url.is_empty() {
        return Err(SourceError::Url);
    }
    if !(MIN_KEY..=MAX_KEY).contains(&key.len()) || !key.chars().all(fits) {
        return Err(SourceError::Key);
    }
    let way = match description.listen_protocol.as_str() {
        "" | "rtmp" => Way::PushedRtmp,
        "srt" => Way::PushedSrt,
        other => return Err(SourceError::NoProtocol(other.to_owned())),
    };
    Ok(Source { way, url: key.clone() })
}

/// The path of the URL is one below the folder.
fn file(policy: &Policy, url: &Url) -> Result<Source, SourceError> {
    let folder = policy.ingest_files.as_ref().ok_or(SourceError::NoFile)?;
    let path = url.to_file_path().map_err(|()| SourceError::NoFile)?;
    let relative = path.strip_prefix("/").unwrap_or(Path::new(""));
    let found: PathBuf = folder.join(relative).canonicalize().map_err(|_| SourceError::NoFile)?;
    if !found.starts_with(folder) || !found.is_file() {
        return Err(SourceError::NoFile);
    }
    let url = found.to_str().ok_or(SourceError::NoFile)?.to_owned();
    Ok(Source { way: Way::File, url })
}

#[cfg(test)]
mod tests {
    use kaigi_outbound::Reach;

    use super::*;

    fn policy(reach: Reach) -> Policy {
        Policy { reach, ..Policy::closed("/recordings") }
    }
    fn check(policy: &Policy, url: &str) -> Result<Source, SourceError> {
        Source::check(policy, &v1::InputDescription { url: url.into(), ..Default::default() })
    }

    #[test]
    fn the_url_says_how() {
        let way = |url: &str| check(&policy(Reach::Any), url).map(|source| source.way);
        assert_eq!(way("rtsp://u:p@camera.example/1"), Ok(Way::Rtsp { udp: false, buffer: 0 }));
        assert_eq!(way("rtmps://live.example/app/key"), Ok(Way::Rtmp));
        assert_eq!(way("srt://live.example:9000?streamid=read:a&latency=200"), Ok(Way::Srt));
        assert_eq!(way("https://live.example/a/b.m3u8?token=1"), Ok(Way::Hls));
        assert_eq!(way("http://live.example/a.mp4"), Ok(Way::Http));
        for bad in [
            "",
            "camera",
            "rtmp://live.example",
            "srt://live.example",
            "srt://live.example:1?mode=listener",
            "ftp://a/b",
            "rtsp:///a",
            "rtsp://a/ b",
            "udp://0.0.0.0:1",
            "file://host/a",
        ] {
            assert_eq!(way(bad), Err(SourceError::Url), "{bad}");
        }
    }

    #[test]
    fn the_own_network_is_refused_unless_allowed() {
        for url in [
            "rtsp://192.168.1.20/stream",
            "rtmp://127.0.0.1/live/a",
            "srt://[::1]:9000",
            "http://169.254.169.254/latest",
            "http://2130706433/a.m3u8",
            "rtsp://localhost/a",
        ] {
            let refused = check(&policy(Reach::Public), url);
            assert!(matches!(refused, Err(SourceError::NotAllowed(_))), "{url}: {refused:?}");
            assert!(check(&policy(Reach::Any), url).is_ok(), "{url}");
        }
        let listed = Policy { ingest_hosts: vec!["camera.example".into()], ..policy(Reach::Any) };
        assert!(check(&listed, "rtsp://camera.example/1").is_ok());
        assert!(check(&listed, "rtsp://other.example/1").is_err());
    }

    #[test]
    fn files_are_below_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let shared = root.join("shared");
        std::fs::create_dir_all(shared.join("clips")).unwrap();
        std::fs::write(shared.join("clips/a b.mp4"), "a").unwrap();
        std::fs::write(root.join("secret.mp4"), "a").unwrap();
        std::os::unix::fs::symlink(root.join("secret.mp4"), shared.join("link.mp4")).unwrap();
        assert_eq!(check(&policy(Reach::Any), "file:///clips/a%20b.mp4"), Err(SourceError::NoFile));
        let policy = Policy { ingest_files: Some(shared.clone()), ..policy(Reach::Public) };
        let found = check(&policy, "file:///clips/a%20b.mp4").unwrap();
        assert_eq!(Path::new(&found.url), shared.join("clips/a b.mp4"));
        for bad in [
            "file:///../secret.mp4",
            "file:///%2e%2e/secret.mp4",
            "file:///clips/..%2f..%2fsecret.mp4",
            "file:///link.mp4",
            "file:///clips",
            "file:///etc/passwd",
        ] {
            assert_eq!(check(&policy, bad), Err(SourceError::NoFile), "{bad}");
        }
    }

    #[test]
    fn what_is_pushed_has_a_key_and_no_url() {
        let check = |url: &str, key: &str| {
            let (url, listen_key) = (url.into(), key.into());
            let description = v1::InputDescription { url, listen_key, ..Default::default() };
            Source::check(&policy(Reach::Public), &description)
        };
        let source = check("", "0123456789abcdef-_").unwrap();
        assert_eq!(source.way, Way::PushedRtmp);
        assert!(!source.shown().contains("0123"));
        assert_eq!(check("rtmp://a/b", "0123456789abcdef"), Err(SourceError::Url));
        for bad in ["short", "0123456789abcdef/", &"a".repeat(80)] {
            assert_eq!(check("", bad), Err(SourceError::Key), "{bad}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let source =
            check(&policy(Reach::Any), "rtsp://user:secret@camera.example/live/main?token=1").unwrap();
        assert_eq!(source.shown(), "rtsp://camera.example/live/…");
    }
}
