//! Offers of WHIP and WHEP clients (RFC 9725 §4.2, draft-ietf-wish-whep §4.2), read as far as a room has to know them. What is in them
//! of formats, fingerprints and extensions is the access-node's to judge.

use kaigi_proto::v1::MediaKind;
use kaigi_room_client::Line;

/// Largest offer, in bytes. Browsers' have about 8 kB for sound and picture.
pub(super) const MAX_OFFER: usize = 64 * 1024;
/// Most m-lines of an offer.
const MAX_SECTIONS: usize = 16;
/// Longest `mid` (RFC 5888), in bytes.
const MAX_MID: usize = 32;

/// Why an offer can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("The body is no session description")]
    NoSdp,
    #[error("The offer has too many m-lines")]
    TooManySections,
    #[error("The offer has an m-line without a usable mid, or two with the same")]
    BadMid,
    #[error("The offer has no ICE credentials, or unusable ones")]
    NoCredentials,
    #[error("The offer sends neither audio nor video")]
    SendsNothing,
    #[error("The offer receives neither audio nor video")]
    ReceivesNothing,
    #[error("The offer has more than one m-line of a kind")]
    SeveralOfAKind,
    #[error("The m-lines of the offer are not bundled")]
    NotBundled,
}

impl OfferError {
    /// Whether it is an offer as such, but one that can't be served.
    pub(super) fn is_understood(self) -> bool {
        match self {
            Self::NoSdp | Self::TooManySections | Self::BadMid | Self::NoCredentials => false,
            Self::SendsNothing | Self::ReceivesNothing | Self::SeveralOfAKind | Self::NotBundled => true,
        }
    }
}

/// Credentials of one side of an ICE session (RFC 8839 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl Credentials {
    /// `None` if the texts can't be credentials.
    pub(super) fn new(ufrag: &str, password: &str) -> Option<Self> {
        let is_text = |text: &str, least: usize| {
            (least..=256).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
        };
        (is_text(ufrag, 4) && is_text(password, 22))
            .then(|| Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}

/// What is to be sent, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Sends,
    Receives,
}

/// An m-line of sound or picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: MediaKind,
    pub(super) mid: String,
    sends: bool,
    receives: bool,
}

/// An offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    text: String,
    sections: Vec<Section>,
    bundle: Vec<String>,
    pub(super) credentials: Credentials,
}

/// What is gathered of an m-line.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<MediaKind>,
    /// Port 0: refused, or to be had in the bundle only.
    no_port: bool,
    bundle_only: bool,
    mid: Option<&'a str>,
    direction: Option<&'a str>,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, OfferError> {
        let mut lines = text.lines();
        if text.len() > MAX_OFFER || lines.next() != Some("v=0") {
            return Err(OfferError::NoSdp);
        }
        let (mut ufrag, mut password) = (None, None);
        let mut bundle = Vec::new();
        let mut session = Draft::default();
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        for line in lines {
            if let Some(media) = line.strip_prefix("m=") {
                if drafts.len() == MAX_SECTIONS {
                    return Err(OfferError::TooManySections);
                }
                drafts.push(section(media).ok_or(OfferError::NoSdp)?);
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let place = drafts.last_mut().unwrap_or(&mut session);
            match attribute.split_once(':').unwrap_or((attribute, "")) {
                ("mid", mid) => place.mid = Some(mid.trim()),
                ("bundle-only", _) => place.bundle_only = true,
                // All m-lines share one transport: the first ones count.
                ("ice-ufrag", value) => ufrag = ufrag.or(Some(value.trim())),
                ("ice-pwd", value) => password = password.or(Some(value.trim())),
                (direction @ ("sendrecv" | "sendonly" | "recvonly" | "inactive"), _) => {
                    place.direction = Some(direction);
                }
                ("group", value) => {
                    let mut words = value.split_whitespace();
                    if words.next() == Some("BUNDLE") {
                        bundle = words.map(str::to_owned).collect();
                    }
                }
                _ => {}
            }
        }
        let mut sections: Vec<Section> = Vec::new();
        for draft in drafts.iter().filter(|draft| !draft.no_port || draft.bundle_only) {
            let mid = draft.mid.filter(|mid| is_mid(mid)).ok_or(OfferError::BadMid)?;
            if sections.iter().any(|section| section.mid == mid) {
                return Err(OfferError::BadMid);
            }
            let direction = draft.direction.or(session.direction).unwrap_or("sendrecv");
            sections.push(Section {
                kind: draft.kind.unwrap_or_default(),
                mid: mid.to_owned(),
                sends: matches!(direction, "sendrecv" | "sendonly"),
                receives: matches!(direction, "sendrecv" | "recvonly"),
            });
        }
        let credentials = ufrag.zip(password).and_then(|(ufrag, password)| Credentials::new(ufrag, password));
        let credentials = credentials.ok_or(OfferError::NoCredentials)?;
        Ok(Self { text: text.to_owned(), sections, bundle, credentials })
    }

    /// The m-lines of sound and picture that go this way: one at least, at most one of each kind, in one bundle (RFC 9725 §4.4.2).
    ///
    /// # Errors
    /// Why there are none such.
    pub(super) fn media(&self, way: Way) -> Result<Vec<Line>, OfferError> {
        let goes = |section: &&Section| match way {
            Way::Sends => section.sends,
            Way::Receives => section.receives,
        };
        let is_media = |section: &&Section| section.kind != MediaKind::Unspecified;
        let line = |section: &Section| Line { kind: section.kind, mid: section.mid.clone() };
        let media: Vec<Line> = self.sections.iter().filter(is_media).filter(goes).map(line).collect();
        let count = |kind| media.iter().filter(|line| line.kind == kind).count();
        if media.is_empty() {
            return Err(match way {
                Way::Sends => OfferError::SendsNothing,
                Way::Receives => OfferError::ReceivesNothing,
            });
        }
        if count(MediaKind::Audio) > 1 || count(MediaKind::Video) > 1 {
            return Err(OfferError::SeveralOfAKind);
        }
        if self.sections.len() > 1 && !media.iter().all(|line| self.bundle.contains(&line.mid)) {
            return Err(OfferError::NotBundled);
        }
        Ok(media)
    }

    /// The offer as it was.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The same offer after an ICE restart (RFC 8839 §4.4.1.1.1): with other credentials and a higher version, without candidates.
    pub(super) fn restarted(&self, credentials: &Credentials) -> Self {
        let mut text = String::with_capacity(self.text.len() + 64);
        for line in self.text.lines() {
            if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                continue;
            }
            if line.starts_with("a=ice-ufrag:") {
                text.push_str(&format!("a=ice-ufrag:{}", credentials.ufrag));
            } else if line.starts_with("a=ice-pwd:") {
                text.push_str(&format!("a=ice-pwd:{}", credentials.password));
            } else if let Some(origin) = line.strip_prefix("o=") {
                text.push_str(&format!("o={}", next_version(origin)));
            } else {
                text.push_str(line);
            }
            text.push_str("\r\n");
        }
        Self { text, credentials: credentials.clone(), ..self.clone() }
    }
}

/// An m-line, from behind its `m=`.
fn section(media: &str) -> Option<Draft<'_>> {
    let mut words = media.split(' ');
    let kind = match words.next()? {
        "audio" => Some(MediaKind::Audio),
        "video" => Some(MediaKind::Video),
        _ => None,
    };
    Some(Draft { kind, no_port: words.next()? == "0", ..Draft::default() })
}

/// Whether a text is a token (RFC 8866 §9) of a length that anybody uses.
fn is_mid(mid: &str) -> bool {
    (1..=MAX_MID).contains(&mid.len())
        && mid.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
}

/// The origin line of the next version of a description (RFC 8866 §5.2).
fn next_version(origin: &str) -> String {
    let mut words: Vec<String> = origin.split(' ').map(str::to_owned).collect();
    if let Some(version) = words.get_mut(2) {
        let next = version.parse::<u64>().unwrap_or_default().saturating_add(1);
        *version = next.to_string();
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n";
    const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    fn m(kind: &str, mid: &str, direction: &str) -> String {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\n{ICE}a=mid:{mid}\r\na={direction}\r\na=candidate:1 1 udp 1 1.2.3.4 5 typ host\r\n"
        )
    }

    fn parse(sections: &[String]) -> Offer {
        Offer::parse(&format!("{HEAD}{}", sections.concat())).unwrap()
    }

    #[test]
    fn one_audio_and_one_video_go_each_way() {
        let offer = parse(&[m("audio", "0", "sendonly"), m("video", "1", "sendrecv")]);
        let mids = |way| offer.media(way).map(|media| media.into_iter().map(|s| s.mid).collect::<Vec<_>>());
        assert_eq!(mids(Way::Sends).unwrap(), ["0", "1"]);
        assert_eq!(mids(Way::Receives).unwrap(), ["1"]);
        let idle = parse(&[m("audio", "0", "inactive"), m("application", "1", "sendrecv")]);
        assert_eq!(idle.media(Way::Sends), Err(OfferError::SendsNothing));
        assert_eq!(idle.media(Way::Receives), Err(OfferError::ReceivesNothing));
    }

    #[test]
    fn port_0_refuses_an_m_line_that_is_not_of_the_bundle_alone() {
        let apart = m("video", "1", "sendonly").replace("m=video 9", "m=video 0");
        let offered = |video: &str| {
            let media = parse(&[m("audio", "0", "sendonly"), video.to_owned()]).media(Way::Sends);
            media.unwrap().len()
        };
        assert_eq!(offered(&apart), 1);
        // As GStreamer offers with the policy max-bundle (RFC 9143 §6).
        assert_eq!(offered(&format!("{apart}a=bundle-only\r\n")), 2);
    }

    #[test]
    fn a_kind_goes_once_and_in_the_bundle() {
        let twice = parse(&[m("video", "0", "sendonly"), m("video", "1", "sendonly")]);
        assert_eq!(twice.media(Way::Sends), Err(OfferError::SeveralOfAKind));
        let apart = parse(&[m("video", "0", "sendonly"), m("audio", "2", "sendonly")]);
        assert_eq!(apart.media(Way::Sends), Err(OfferError::NotBundled));
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        let refused = |text: &str| Offer::parse(text).unwrap_err();
        let one = m("audio", "0", "sendonly");
        assert_eq!(refused(""), OfferError::NoSdp);
        assert_eq!(refused("hello"), OfferError::NoSdp);
        assert_eq!(refused(&format!("{HEAD}{}", "a=x\r\n".repeat(MAX_OFFER))), OfferError::NoSdp);
        assert_eq!(refused(&format!("{HEAD}m=audio\r\n")), OfferError::NoSdp);
        assert_eq!(refused(&format!("{HEAD}{}", one.repeat(17))), OfferError::TooManySections);
        assert_eq!(refused(&format!("{HEAD}{one}{one}")), OfferError::BadMid);
        assert_eq!(refused(&format!("{HEAD}{}", one.replace("a=mid:0", "a=mid:a b"))), OfferError::BadMid);
        assert_eq!(refused(&format!("{HEAD}{}", one.replace("a=mid:0\r\n", ""))), OfferError::BadMid);
        assert_eq!(refused(&format!("{HEAD}{}", one.replace(ICE, ""))), OfferError::NoCredentials);
        assert_eq!(refused(&format!("{HEAD}{}", one.replace("abcd", "a\tcd"))), OfferError::NoCredentials);
    }

    #[test]
    fn a_restart_changes_credentials_and_version_and_nothing_else() {
        let offer = parse(&[m("audio", "0", "sendonly"), m("video", "1", "sendonly")]);
        let other = Credentials::new("wxyz", "abcdefghijabcdefghijab").unwrap();
        let restarted = offer.restarted(&other);
        assert_eq!(restarted, Offer::parse(restarted.text()).unwrap());
        assert_eq!(restarted.credentials, other);
        let expected = offer.text().replace("abcd\r\n", "wxyz\r\n");
        let expected = expected.replace("0123456789012345678901", "abcdefghijabcdefghijab");
        let expected = expected.replace("o=- 7 1 ", "o=- 7 2 ");
        let expected = expected.replace("a=candidate:1 1 udp 1 1.2.3.4 5 typ host\r\n", "");
        assert_eq!(restarted.text(), expected);
    }
}
