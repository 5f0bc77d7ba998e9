//! The little that has to be known of descriptions here.

/// What an offer is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) audio: bool,
    pub(crate) video: bool,
    pub(crate) data: bool,
}

impl Offered {
    pub(crate) fn of(sdp: &str) -> Self {
        let has =
            |kind: &str| sdp.lines().any(|line| line.strip_prefix("m=").is_some_and(|m| m.starts_with(kind)));
        Self { audio: has("audio "), video: has("video "), data: has("application ") }
    }
}

/// An m-line of sound or picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) is_video: bool,
    pub(crate) mid: String,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
}

/// The lines of sound and picture of our own descriptions, which say of each what it is.
pub(crate) fn lines(sdp: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let sdp = sdp.replace('\r', "");
    for section in sdp.split("\nm=").skip(1) {
        let is_video = section.starts_with("video ");
        if !is_video && !section.starts_with("audio ") {
            continue;
        }
        let attribute = |name: &str| section.lines().find_map(|line| line.strip_prefix(name));
        let has = |name: &str| section.lines().any(|line| line == name);
        lines.push(Line {
            is_video,
            mid: attribute("a=mid:").unwrap_or_default().to_owned(),
            sends: has("a=sendrecv") || has("a=sendonly"),
            receives: has("a=sendrecv") || has("a=recvonly"),
        });
    }
    lines
}

/// A description that asks for no more than so many kbit/s (RFC 8866 §5.8); 0 asks for nothing. The line stands behind the section's `c=`.
pub(crate) fn bandwidth_limited(sdp: &str, audio: u32, video: u32) -> String {
    let mut limited = String::with_capacity(sdp.len() + 32);
    let mut limit = 0;
    for line in sdp.lines() {
        limited.push_str(line);
        limited.push_str("\r\n");
        if line.starts_with("m=") {
            limit = if line.starts_with("m=audio ") {
                audio
            } else if line.starts_with("m=video ") {
                video
            } else {
                0
            };
        } else if line.starts_with("c=") && limit > 0 {
            limited.push_str(&format!("b=AS:{limit}\r\n"));
        }
    }
    limited
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n";

    #[test]
    fn an_offer_says_what_it_is_about() {
        assert_eq!(Offered::of(SDP), Offered { audio: true, video: true, data: false });
        let data = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
        assert_eq!(Offered::of(data), Offered { data: true, ..Offered::default() });
    }

    #[test]
    fn lines_say_what_they_are() {
        let sdp = SDP.replace("a=mid:1\r\n", "a=mid:1\r\na=recvonly\r\n");
        let sdp = sdp.replace("m=video", "a=mid:0\r\na=sendonly\r\nm=video");
        let found: Vec<_> =
            lines(&sdp).into_iter().map(|l| (l.mid, l.is_video, l.sends, l.receives)).collect();
        assert_eq!(found, [("0".to_owned(), false, true, false), ("1".to_owned(), true, false, true)]);
    }

    #[test]
    fn a_limit_stands_where_it_belongs() {
        assert_eq!(bandwidth_limited(SDP, 0, 0), SDP);
        let limited = bandwidth_limited(SDP, 0, 500);
        assert_eq!(
            limited,
            SDP.replace("c=IN IP4 0.0.0.0\r\na=mid:1", "c=IN IP4 0.0.0.0\r\nb=AS:500\r\na=mid:1")
        );
    }
}
