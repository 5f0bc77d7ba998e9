//! M-lines that go both ways, for a room in which a track goes one way: each is unfolded into two, one that sends and one that receives, behind all
//! others; in the answer the two are folded together again. Who offers sees nothing of that.

use std::fmt::Write;

use kaigi_proto::v1::MediaKind;
use kaigi_room_client::Line;

use crate::whip::{Offer, OfferError};

/// Why an offer can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FoldError {
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("The offer has more than one m-line of a kind")]
    SeveralOfAKind,
    #[error("The m-lines of the offer are not bundled")]
    NotBundled,
    #[error("The offer has nothing to send: no sound, no picture, no data channel")]
    Nothing,
}

/// An offer of m-lines that go one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfolded {
    /// As the room gets it.
    pub(super) text: String,
    pub(super) sends: Vec<Line>,
    /// Of what it sends.
    pub(super) receives: Vec<Line>,
    /// How many m-lines there were, and which of them are unfolded, in the order of what stands behind them all.
    lines: usize,
    unfolded: Vec<usize>,
    /// Whether the client bundles by itself.
    bundles: bool,
}

/// An m-line with what belongs to it.
struct Section<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
    }

    fn kind(&self) -> Option<MediaKind> {
        match self.lines.first()?.strip_prefix("m=")?.split(' ').next()? {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            _ => None,
        }
    }

    fn is_rejected(&self) -> bool {
        let port = self.lines.first().and_then(|line| line.split(' ').nth(1));
        port == Some("0") && !self.lines.contains(&"a=bundle-only")
    }

    fn direction(&self) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix("a=").filter(|value| is_direction(value)))
    }
}

fn is_direction(value: &str) -> bool {
    matches!(value, "sendrecv" | "sendonly" | "recvonly" | "inactive")
}

/// The head of a description, and its m-lines.
fn split(text: &str) -> (Section<'_>, Vec<Section<'_>>) {
    let mut head = Section { lines: Vec::new() };
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            sections.push(Section { lines: vec![line] });
        } else {
            sections.last_mut().unwrap_or(&mut head).lines.push(line);
        }
    }
    (head, sections)
}

impl Unfolded {
    /// Reads an offer: at most one m-line of sound and one of picture, in one bundle.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(text: &str) -> Result<Self, FoldError> {
        Offer::parse(text)?;
        let (head, sections) = split(text);
        let group = head.value("group").and_then(|value| value.strip_prefix("BUNDLE"));
        let bundle: Vec<&str> = group.map(|mids| mids.split_whitespace().collect()).unwrap_or_default();
        let mut mids = bundle.iter().map(|mid| (*mid).to_owned()).collect::<Vec<_>>();
        let (mut sends, mut receives, mut unfolded) = (Vec::new(), Vec::new(), Vec::new());
        let (mut kinds, mut has_data) = (Vec::new(), false);
        let (mut body, mut behind) = (String::new(), String::new());
        for (index, section) in sections.iter().enumerate() {
            let mid = section.value("mid").map(str::trim).unwrap_or_default();
            let direction = section.direction().or(head.direction()).unwrap_or("sendrecv");
            let alive = !section.is_rejected();
            has_data |= alive && section.kind().is_none();
            let Some(kind) = section.kind().filter(|_| alive) else {
                write_section(&mut body, section, None, |_| true);
                continue;
            };
            if sections.len() > 1 && !bundle.contains(&mid) {
                return Err(FoldError::NotBundled);
            }
            if kinds.contains(&kind) {
                return Err(FoldError::SeveralOfAKind);
            }
            kinds.push(kind);
            let both = direction == "sendrecv";
            if both || direction == "sendonly" {
                sends.push(Line { kind, mid: mid.to_owned() });
            }
            write_section(&mut body, section, Some(if both { "sendonly" } else { direction }), |_| true);
            if both {
                let own = |mid: &String| sections.iter().all(|section| section.value("mid") != Some(mid));
                let names = (0..).map(|number| format!("back-{index}-{number}"));
                let back = names.into_iter().find(own).unwrap_or_default();
                let is_new = |line: &str| !OF_THE_SENDER.iter().any(|prefix| line.starts_with(prefix));
                write_section(&mut behind, section, Some("recvonly"), is_new);
                let _ = write!(behind, "a=mid:{back}\r\n");
                mids.push(back.clone());
                receives.push(Line { kind, mid: back });
                unfolded.push(index);
            }
        }
        if sends.is_empty() && !has_data {
            return Err(FoldError::Nothing);
        }
        if bundle.is_empty() && !receives.is_empty() {
            mids.insert(0, sends[0].mid.clone());
        }
        let mut whole = String::with_capacity(text.len() * 2);
        for line in head.lines.iter().filter(|line| !line.starts_with("a=group:BUNDLE")) {
            let _ = write!(whole, "{line}\r\n");
        }
        if !mids.is_empty() {
            let _ = write!(whole, "a=group:BUNDLE {}\r\n", mids.join(" "));
        }
        whole.push_str(&body);
        whole.push_str(&behind);
        let (lines, bundles) = (sections.len(), group.is_some());
        Ok(Self { text: whole, sends, receives, lines, unfolded, bundles })
    }

    /// Whether a kind goes both ways.
    pub(super) fn receives(&self, kind: MediaKind) -> bool {
        self.receives.iter().any(|line| line.kind == kind)
    }

    /// The answer as the client has to have it; `None` if it is none to this offer.
    pub(super) fn fold(&self, answer: &str) -> Option<String> {
        let (head, sections) = split(answer);
        if sections.len() != self.lines + self.unfolded.len() {
            return None;
        }
        let (own, back) = sections.split_at(self.lines);
        let mut text = String::with_capacity(answer.len());
        for line in &head.lines {
            match line.strip_prefix("a=group:BUNDLE") {
                Some(_) if !self.bundles => {}
                Some(mids) => {
                    let ours = |mid: &&str| self.receives.iter().all(|line| line.mid != **mid);
                    let mids: Vec<&str> = mids.split_whitespace().filter(ours).collect();
                    let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
                }
                None => {
                    let _ = write!(text, "{line}\r\n");
                }
            }
        }
        for (index, section) in own.iter().enumerate() {
            match self.unfolded.iter().position(|unfolded| *unfolded == index) {
                Some(at) => fold_section(&mut text, section, &back[at]),
                None => write_section(&mut text, section, None, |_| true),
            }
        }
        Some(text)
    }
}

/// What of an m-line tells of what its client sends, or names it.
const OF_THE_SENDER: [&str; 7] =
    ["a=mid:", "a=msid:", "a=ssrc:", "a=ssrc-group:", "a=rid:", "a=simulcast:", "a=candidate:"];

/// Writes an m-line, with another direction if one is given.
fn write_section(
    out: &mut String,
    section: &Section<'_>,
    direction: Option<&str>,
    keep: impl Fn(&str) -> bool,
) {
    for line in section.lines.iter().filter(|line| keep(line)) {
        let is_replaced = direction.is_some() && line.strip_prefix("a=").is_some_and(is_direction);
        if !is_replaced {
            let _ = write!(out, "{line}\r\n");
        }
    }
    if let Some(direction) = direction {
        let _ = write!(out, "a={direction}\r\n");
    }
}

/// One m-line of what is received from the client and what is sent to it: formats of both, each attribute once.
fn fold_section(out: &mut String, received: &Section<'_>, sent: &Section<'_>) {
    let is_taken = matches!(received.direction(), Some("recvonly" | "sendrecv")) && !received.is_rejected();
    let is_sent = matches!(sent.direction(), Some("sendonly" | "sendrecv")) && !sent.is_rejected();
    if !is_sent {
        return write_section(out, received, None, |_| true);
    }
    let Some((line, rest)) = received.lines.split_first() else { return };
    let offered: Vec<&str> = line.split(' ').skip(3).collect();
    let formats = sent.lines.first().map(|line| line.split(' ').skip(3)).into_iter().flatten();
    let mut line = (*line).to_owned();
    for format in formats.filter(|format| !offered.contains(format)) {
        let _ = write!(line, " {format}");
    }
    let _ = write!(out, "{line}\r\n");
    let mut known: Vec<&str> = Vec::new();
    let is_own = |line: &&&str| !line.strip_prefix("a=").is_some_and(is_direction);
    for line in rest.iter().filter(is_own) {
        known.push(line);
        let _ = write!(out, "{line}\r\n");
    }
    let _ = write!(out, "a={}\r\n", if is_taken { "sendrecv" } else { "sendonly" });
    let of_the_track =
        ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=extmap:", "a=msid:", "a=ssrc:", "a=ssrc-group:"];
    let is_of_it = |line: &&&str| of_the_track.iter().any(|prefix| line.starts_with(prefix));
    for line in sent.lines.iter().filter(is_of_it) {
        // The same payload or extension in other words is the same.
        let is_known = known.iter().any(|other| *other == *line || is_of_one(other, line));
        if !is_known {
            let _ = write!(out, "{line}\r\n");
        }
    }
}

/// Whether two attributes say what only one may say: the map or the parameters of a payload, the number of an extension.
fn is_of_one(one: &str, other: &str) -> bool {
    ["a=rtpmap:", "a=fmtp:", "a=extmap:"].iter().any(|prefix| {
        let number = |line: &str| line.strip_prefix(prefix)?.split([' ', '/']).next().map(str::to_owned);
        number(one).is_some() && number(one) == number(other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
    const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n";

    fn m(kind: &str, mid: &str, direction: &str, rest: &str) -> String {
        format!("m={kind} 9 UDP/TLS/RTP/SAVPF 96 97\r\n{ICE}a=mid:{mid}\r\na={direction}\r\n{rest}")
    }

    fn offer(sections: &[String]) -> String {
        format!("{HEAD}a=group:BUNDLE 0 1 2\r\n{}", sections.concat())
    }

    fn whole() -> String {
        let track = "a=msid:s t\r\na=ssrc:7 cname:x\r\na=rtpmap:96 VP8/90000\r\n";
        offer(&[m("audio", "0", "sendrecv", track), m("video", "1", "sendrecv", track), DATA.to_owned()])
    }

    #[test]
    fn what_goes_both_ways_is_two_m_lines() {
        let unfolded = Unfolded::of(&whole()).unwrap();
        let (head, sections) = split(&unfolded.text);
        assert_eq!(head.value("group"), Some("BUNDLE 0 1 2 back-0-0 back-1-0"));
        let told: Vec<_> =
            sections.iter().map(|s| (s.value("mid").unwrap(), s.direction(), s.value("ssrc"))).collect();
        assert_eq!(
            told,
            [
                ("0", Some("sendonly"), Some("7 cname:x")),
                ("1", Some("sendonly"), Some("7 cname:x")),
                ("2", None, None),
                ("back-0-0", Some("recvonly"), None),
                ("back-1-0", Some("recvonly"), None),
            ]
        );
        assert!(sections[3].value("msid").is_none() && sections[3].value("rtpmap").is_some());
        assert!(Offer::parse(&unfolded.text).is_ok());
        let mids = |lines: &[Line]| lines.iter().map(|line| line.mid.clone()).collect::<Vec<_>>();
        assert_eq!(mids(&unfolded.sends), ["0", "1"]);
        assert_eq!(mids(&unfolded.receives), ["back-0-0", "back-1-0"]);
    }

    #[test]
    fn one_way_stays_one_way() {
        let unfolded =
            Unfolded::of(&offer(&[m("audio", "0", "sendonly", ""), m("video", "1", "recvonly", "")]))
                .unwrap();
        assert_eq!((unfolded.sends.len(), unfolded.receives.len()), (1, 0));
        assert!(unfolded.text.contains("a=sendonly") && unfolded.text.contains("a=recvonly"));
    }

    #[test]
    fn without_a_bundle_one_m_line_goes_both_ways() {
        let alone = format!("{HEAD}{}", m("video", "v", "sendrecv", ""));
        let unfolded = Unfolded::of(&alone).unwrap();
        assert_eq!(split(&unfolded.text).0.value("group"), Some("BUNDLE v back-0-0"));
        let answer = unfolded.text.replace("a=sendonly", "a=sendrecv").replace("a=recvonly", "a=sendonly");
        assert!(!unfolded.fold(&answer).unwrap().contains("a=group"));
    }

    #[test]
    fn the_answer_is_folded_to_what_was_offered() {
        let unfolded = Unfolded::of(&whole()).unwrap();
        let section = |kind: &str, mid: &str, direction: &str, formats: &str, rest: &str| {
            format!("m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\na=mid:{mid}\r\na={direction}\r\n{rest}")
        };
        let shared = "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=extmap:3 urn:x\r\n";
        let back = "a=rtcp-fb:96 goog-remb\r\na=rtpmap:99 red/8000\r\na=msid:b b\r\na=ssrc:9 cname:y\r\n";
        let answer = format!(
            "{HEAD}a=group:BUNDLE 0 1 2 back-0-0 back-1-0\r\na=ice-lite\r\n{}{}{DATA}{}{}",
            section("audio", "0", "recvonly", "96", shared),
            section("video", "1", "recvonly", "96", shared),
            section("audio", "back-0-0", "sendonly", "96 99", &format!("{shared}{back}")),
            section("video", "back-1-0", "inactive", "96", shared),
        );
        let folded = unfolded.fold(&answer).unwrap();
        let expected = format!(
            "{HEAD}a=group:BUNDLE 0 1 2\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96 99\r\na=mid:0\r\n{shared}a=sendrecv\r\n{back}{}{DATA}",
            section("video", "1", "recvonly", "96", shared),
        );
        assert_eq!(folded, expected);
        assert_eq!(unfolded.fold(HEAD), None, "an answer to something else");
    }

    #[test]
    fn a_mid_of_the_client_is_nobody_elses() {
        let taken = format!(
            "{HEAD}a=group:BUNDLE 0 back-0-0\r\n{}{}",
            m("audio", "0", "sendrecv", ""),
            m("video", "back-0-0", "sendonly", "")
        );
        assert_eq!(Unfolded::of(&taken).unwrap().receives[0].mid, "back-0-1");
    }

    #[test]
    fn what_can_not_be_served_is_named() {
        let refused = |text: &str| Unfolded::of(text).unwrap_err();
        assert_eq!(refused("hello"), FoldError::Offer(OfferError::NoSdp));
        let twice = offer(&[m("video", "0", "sendrecv", ""), m("video", "1", "sendrecv", "")]);
        assert_eq!(refused(&twice), FoldError::SeveralOfAKind);
        let apart = whole().replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 2");
        assert_eq!(refused(&apart), FoldError::NotBundled);
        assert_eq!(refused(&offer(&[m("video", "0", "recvonly", "")])), FoldError::Nothing);
        assert_eq!(refused(&format!("{HEAD}{ICE}")), FoldError::Nothing);
    }
}
