//! SDP fragments of ICE (`application/trickle-ice-sdpfrag`, RFC 8840 §9): what a client sends by PATCH, and what it is answered.

use kaigi_proto::v1::IceCandidate;
use kaigi_room_client::Line;

use super::offer::Credentials;

/// Largest fragment, in bytes.
pub(super) const MAX_FRAGMENT: usize = 16 * 1024;
/// Most candidates of a fragment.
const MAX_CANDIDATES: usize = 64;

/// Why a fragment can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FragmentError {
    #[error("The body is no SDP fragment")]
    NoFragment,
    #[error("The fragment has too many candidates")]
    TooManyCandidates,
    #[error("The fragment has unusable ICE credentials")]
    Credentials,
}

/// What a client says of its side of the ICE session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fragment {
    /// Those that the candidates belong to.
    pub(super) credentials: Option<Credentials>,
    /// An empty one says that there are no more.
    pub(super) candidates: Vec<IceCandidate>,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, FragmentError> {
        let mut fragment = Self::default();
        let (mut ufrag, mut password) = (None, None);
        let (mut mid, mut index) = (String::new(), None::<u32>);
        for line in text.lines().filter(|line| !line.is_empty()) {
            if !matches!(line.as_bytes(), [b'a'..=b'z', b'=', ..]) {
                return Err(FragmentError::NoFragment);
            }
            if line.starts_with("m=") {
                index = Some(index.map_or(0, |index| index + 1));
                mid.clear();
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            match attribute.split_once(':').unwrap_or((attribute, "")) {
                ("ice-ufrag", value) => ufrag = ufrag.or(Some(value.trim())),
                ("ice-pwd", value) => password = password.or(Some(value.trim())),
                ("mid", value) => mid = value.trim().to_owned(),
                (name @ ("candidate" | "end-of-candidates"), _) => {
                    if fragment.candidates.len() == MAX_CANDIDATES {
                        return Err(FragmentError::TooManyCandidates);
                    }
                    fragment.candidates.push(IceCandidate {
                        candidate: if name == "candidate" { attribute.to_owned() } else { String::new() },
                        sdp_mid: mid.clone(),
                        sdp_mline_index: index.unwrap_or_default(),
                    });
                }
                _ => {}
            }
        }
        fragment.credentials = match (ufrag, password) {
            (None, None) => None,
            (Some(ufrag), Some(password)) => {
                Some(Credentials::new(ufrag, password).ok_or(FragmentError::Credentials)?)
            }
            (Some(_), None) | (None, Some(_)) => return Err(FragmentError::Credentials),
        };
        if fragment == Self::default() {
            return Err(FragmentError::NoFragment);
        }
        Ok(fragment)
    }
}

/// What an answer says of the server's side of the ICE session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerIce {
    pub(super) credentials: Credentials,
    lines: Vec<String>,
}

impl ServerIce {
    /// Reads it from an answer; `None` if it is not there.
    pub(super) fn of(answer: &str) -> Option<Self> {
        let mut sections = answer.split("\nm=");
        let session = sections.next()?;
        let find = |text: &str, name: &str| {
            text.lines().find_map(|line| line.trim_end().strip_prefix(name).map(str::to_owned))
        };
        // The transport is that of the first m-line that is not refused.
        let first = sections.find(|section| section.contains("\na=ice-ufrag:"))?;
        let credentials = Credentials::new(&find(first, "a=ice-ufrag:")?, &find(first, "a=ice-pwd:")?)?;
        let group = session
            .lines()
            .map(str::trim_end)
            .filter(|line| line.starts_with("a=group:BUNDLE") || *line == "a=ice-lite");
        let mut lines: Vec<String> = group.map(str::to_owned).collect();
        lines.push(format!("m={}", first.lines().next()?.trim_end()));
        let wanted = ["a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"];
        let of_it = first.lines().map(str::trim_end);
        lines.extend(of_it.filter(|line| wanted.iter().any(|w| line.starts_with(w))).map(str::to_owned));
        Some(Self { credentials, lines })
    }

    /// The fragment that tells a client of it.
    pub(super) fn fragment(&self) -> String {
        let mut text = self.lines.join("\r\n");
        text.push_str("\r\n");
        text
    }
}

/// Whether something flows on each of these m-lines of an answer.
pub(crate) fn all_flow<'a>(answer: &str, lines: impl IntoIterator<Item = &'a Line>) -> bool {
    let sections: Vec<&str> = answer.split("\nm=").skip(1).collect();
    lines.into_iter().all(|Line { mid, .. }| {
        sections.iter().any(|section| {
            let mut lines = section.lines().map(str::trim_end);
            lines.clone().any(|line| line.strip_prefix("a=mid:") == Some(mid))
                && !lines.any(|line| line == "a=inactive")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PWD: &str = "0123456789012345678901";

    #[test]
    fn candidates_and_credentials_are_read() {
        let text = format!(
            "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
             a=ice-ufrag:EsAw\r\na=ice-pwd:{PWD}\r\na=candidate:1 1 udp 2 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n"
        );
        let fragment = Fragment::parse(&text).unwrap();
        assert_eq!(fragment.credentials, Credentials::new("EsAw", PWD));
        let told: Vec<_> =
            fragment.candidates.iter().map(|c| (c.candidate.as_str(), c.sdp_mid.as_str())).collect();
        assert_eq!(told, [("candidate:1 1 udp 2 192.0.2.1 9 typ host", "0"), ("", "0")]);
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, why) in [
            (String::new(), FragmentError::NoFragment),
            ("{}".into(), FragmentError::NoFragment),
            ("a=mid:0\r\n".into(), FragmentError::NoFragment),
            ("a=ice-ufrag:abcd\r\n".into(), FragmentError::Credentials),
            (format!("a=ice-ufrag:a\r\na=ice-pwd:{PWD}\r\n"), FragmentError::Credentials),
            ("a=candidate:1\r\n".repeat(65), FragmentError::TooManyCandidates),
        ] {
            assert_eq!(Fragment::parse(&text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_servers_side_is_that_of_its_answer() {
        let answer = format!(
            "v=0\r\ns=-\r\na=group:BUNDLE 1\r\na=ice-lite\r\nm=audio 0 X 0\r\na=mid:0\r\na=inactive\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\na=end-of-candidates\r\n\
             a=ice-ufrag:srvr\r\na=ice-pwd:{PWD}\r\na=fingerprint:x\r\na=mid:1\r\na=recvonly\r\n"
        );
        let ice = ServerIce::of(&answer).unwrap();
        assert_eq!(ice.credentials.ufrag, "srvr");
        assert_eq!(
            ice.fragment(),
            format!(
                "a=group:BUNDLE 1\r\na=ice-lite\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n\
                 a=end-of-candidates\r\na=ice-ufrag:srvr\r\na=ice-pwd:{PWD}\r\na=mid:1\r\n"
            )
        );
        assert_eq!(ServerIce::of("v=0\r\n"), None);
        let line = |mid: &str| Line { kind: kaigi_proto::v1::MediaKind::Audio, mid: mid.to_owned() };
        assert!(all_flow(&answer, &[line("1")]));
        assert!(!all_flow(&answer, &[line("0")]) && !all_flow(&answer, &[line("2")]));
    }
}
