//! Answers to offers that Chromium 142 made.

mod layers;

use super::*;
use crate::ids::{Mid, Rid, Ssrc};
use kaigi_proto::ids::SessionId;

/// Sound and picture, sent.
const PUBLISH: &str = include_str!("../../tests/offers/chromium-publish.sdp");
/// The same and two m-lines to receive on.
const SUBSCRIBE: &str = include_str!("../../tests/offers/chromium-subscribe.sdp");
/// The first two inactive, the next two to receive on, and a data channel.
const DATA_CHANNEL: &str = include_str!("../../tests/offers/chromium-datachannel.sdp");
/// Sound, and picture in three layers.
const SIMULCAST: &str = include_str!("../../tests/offers/chromium-simulcast.sdp");

fn local() -> LocalDescription {
    LocalDescription {
        ufrag: "ours".into(),
        password: "ourpassword".into(),
        fingerprint: "sha-256 AA:BB".into(),
        candidates: vec!["1 1 udp 2130706431 192.0.2.1 10000 typ host".into()],
        session_id: 42,
    }
}

fn mid(text: &str) -> Mid {
    Mid::new(text).unwrap()
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn format(codec: Codec, profile: Option<H264Profile>) -> Format {
    let (sample_rate, channels) = if codec == Codec::Opus { (48_000, 2) } else { (0, 0) };
    Format { codec, sample_rate, channels, profile }
}

fn receive(kind: Kind, accepted: &[Format]) -> Binding {
    Binding { session: session("publication"), kind, wish: Wish::Receive(accepted.to_vec()) }
}

fn send(kind: Kind, format: Format) -> Binding {
    let wish = Wish::Send { formats: vec![format], client_order: false };
    Binding { session: session("subscription"), kind, wish }
}

fn answer(negotiation: &mut Negotiation, offer: &str) -> Outcome {
    let mut ssrc = 1000;
    negotiation.answer(&Offer::parse(offer).unwrap(), || {
        ssrc += 1;
        ssrc
    })
}

/// The lines of each m-line's section, the session's first.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections
}

fn negotiation(bindings: &[(&str, Binding)]) -> Negotiation {
    let mut negotiation = Negotiation::new(local());
    for (line, binding) in bindings {
        negotiation.bind(mid(line), binding.clone());
    }
    negotiation
}

#[test]
fn a_publication_is_answered_with_its_first_accepted_payload_alone() {
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[format(Codec::Pcmu, None), format(Codec::Opus, None)])),
        ("1", receive(Kind::Video, &[format(Codec::Vp9, None), format(Codec::Vp8, None)])),
    ]);
    let outcome = answer(&mut negotiation, PUBLISH);
    assert_eq!(
        outcome.changes,
        [
            Change::Negotiated(mid("0")),
            Change::Sources(mid("0"), Ssrc(172_616_411), None),
            Change::Negotiated(mid("1")),
            outcome.changes[3].clone(),
        ]
    );
    let Change::Sources(_, ssrc, Some(rtx)) = &outcome.changes[3] else { panic!("{:?}", outcome.changes) };
    assert!(PUBLISH.contains(&format!("a=ssrc-group:FID {ssrc} {rtx}")));
    assert_eq!(outcome.role, DtlsRole::Server);
    assert_eq!(
        sections(&outcome.answer),
        [
            vec![
                "v=0",
                "o=- 42 1 IN IP4 127.0.0.1",
                "s=-",
                "t=0 0",
                "a=group:BUNDLE 0 1",
                "a=extmap-allow-mixed",
                "a=ice-lite",
                "a=msid-semantic: WMS *",
            ],
            vec![
                "m=audio 9 UDP/TLS/RTP/SAVPF 63 111",
                "c=IN IP4 0.0.0.0",
                "a=rtcp:9 IN IP4 0.0.0.0",
                "a=candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host",
                "a=end-of-candidates",
                "a=ice-ufrag:ours",
                "a=ice-pwd:ourpassword",
                "a=fingerprint:sha-256 AA:BB",
                "a=setup:passive",
                "a=mid:0",
                "a=rtcp-mux",
                "a=rtcp-rsize",
                "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
                "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=recvonly",
                "a=rtpmap:111 opus/48000/2",
                "a=rtcp-fb:111 transport-cc",
                "a=fmtp:111 minptime=10;useinbandfec=1",
                "a=rtpmap:63 red/48000/2",
                "a=fmtp:63 111/111",
            ],
            vec![
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
                "c=IN IP4 0.0.0.0",
                "a=rtcp:9 IN IP4 0.0.0.0",
                "a=candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host",
                "a=end-of-candidates",
                "a=ice-ufrag:ours",
                "a=ice-pwd:ourpassword",
                "a=fingerprint:sha-256 AA:BB",
                "a=setup:passive",
                "a=mid:1",
                "a=rtcp-mux",
                "a=rtcp-rsize",
                "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
                "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
                "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
                "a=recvonly",
                "a=rtpmap:96 VP8/90000",
                "a=rtcp-fb:96 transport-cc",
                "a=rtcp-fb:96 ccm fir",
                "a=rtcp-fb:96 nack",
                "a=rtcp-fb:96 nack pli",
                "a=rtpmap:97 rtx/90000",
                "a=fmtp:97 apt=96",
            ],
        ]
    );
}

#[test]
fn payloads_are_chosen_in_the_clients_order() {
    use H264Profile::{Baseline, ConstrainedBaseline, High, Main};
    let h264 = |profile| format(Codec::H264, profile);
    // What is accepted, the payload that is taken, the format that comes of it.
    let table = [
        (vec![format(Codec::Vp9, None)], Some((98, None))),
        (vec![h264(Some(ConstrainedBaseline))], Some((108, Some(ConstrainedBaseline)))),
        (vec![h264(Some(Baseline))], Some((102, Some(Baseline)))),
        (vec![h264(Some(High))], Some((102, Some(Baseline)))),
        (vec![h264(None)], Some((102, Some(Baseline)))),
        (
            vec![h264(Some(ConstrainedBaseline)), format(Codec::Av1, None)],
            Some((108, Some(ConstrainedBaseline))),
        ),
        (vec![format(Codec::Av1, None), h264(Some(Main))], Some((102, Some(Baseline)))),
        (vec![format(Codec::H265, None)], None),
        (vec![], None),
    ];
    for (accepted, expected) in table {
        let mut negotiation = negotiation(&[("1", receive(Kind::Video, &accepted))]);
        answer(&mut negotiation, PUBLISH);
        let found = negotiation.negotiated(&mid("1")).map(|n| (n.payload.number, n.format.profile));
        assert_eq!(found, expected, "{accepted:?}");
    }
    // The source's format, the payload that it is sent with.
    let table = [
        (format(Codec::Vp8, None), Some(96)),
        (h264(Some(ConstrainedBaseline)), Some(108)),
        (h264(Some(Main)), Some(116)),
        (h264(Some(High)), None),
        (h264(None), Some(102)),
        (format(Codec::Av1, None), Some(45)),
    ];
    for (source, expected) in table {
        let mut negotiation = negotiation(&[("3", send(Kind::Video, source))]);
        answer(&mut negotiation, SUBSCRIBE);
        assert_eq!(negotiation.negotiated(&mid("3")).map(|n| n.payload.number), expected, "{source:?}");
    }
}

#[test]
fn formats_for_sending_are_chosen_in_either_order() {
    use H264Profile::{ConstrainedBaseline, High, Main};
    let h264 = |profile| format(Codec::H264, profile);
    let (vp8, vp9, av1) = (format(Codec::Vp8, None), format(Codec::Vp9, None), format(Codec::Av1, None));
    // What may be sent; payload and H.264 profile that are agreed on if the first goes before the others, and in the client's order.
    let table = [
        (vec![vp9, vp8], Some((98, None)), Some((96, None))),
        (vec![format(Codec::H265, None), av1], Some((45, None)), Some((45, None))),
        // Behind the first, which is not offered, the client's order decides.
        (vec![format(Codec::H265, None), vp9, vp8], Some((96, None)), Some((96, None))),
        (vec![h264(Some(High)), vp9], Some((98, None)), Some((98, None))),
        (
            vec![h264(Some(ConstrainedBaseline)), vp8],
            Some((108, Some(ConstrainedBaseline))),
            Some((96, None)),
        ),
        // The client's first H.264 payload is Baseline: what is constrained is no more than that.
        (
            vec![h264(Some(Main)), h264(Some(ConstrainedBaseline))],
            Some((116, Some(Main))),
            Some((102, Some(ConstrainedBaseline))),
        ),
        (
            vec![h264(None)],
            Some((102, Some(H264Profile::Baseline))),
            Some((102, Some(H264Profile::Baseline))),
        ),
        (vec![format(Codec::H265, None)], None, None),
        (vec![], None, None),
    ];
    for (formats, first_first, by_client) in table {
        for (client_order, expected) in [(false, first_first), (true, by_client)] {
            let wish = Wish::Send { formats: formats.clone(), client_order };
            let binding = Binding { session: session("s"), kind: Kind::Video, wish };
            let mut negotiation = negotiation(&[("3", binding)]);
            let outcome = answer(&mut negotiation, SUBSCRIBE);
            let found = negotiation.negotiated(&mid("3")).map(|n| (n.payload.number, n.format.profile));
            assert_eq!(found, expected, "{formats:?}, client's order: {client_order}");
            if expected.is_none() {
                let refused = Change::Refused(session("s"), "No proper video codec".into());
                assert_eq!(outcome.changes, [refused]);
            }
        }
    }
}

#[test]
fn a_stream_of_no_higher_profile_may_be_sent_as_negotiated() {
    use H264Profile::{ConstrainedBaseline, High, Main};
    let h264 = |profile| format(Codec::H264, profile);
    assert!(h264(Some(Main)).carries(h264(Some(ConstrainedBaseline))));
    assert!(h264(Some(Main)).carries(h264(Some(Main))));
    assert!(!h264(Some(Main)).carries(h264(Some(High))));
    assert!(h264(Some(Main)).carries(h264(None)), "of which nothing is known");
    assert!(!format(Codec::Vp8, None).carries(format(Codec::Vp9, None)));
    let mono = Format { channels: 1, ..format(Codec::Opus, None) };
    assert!(!format(Codec::Opus, None).carries(mono));
    assert!(format(Codec::Opus, None).carries(Format { sample_rate: 0, channels: 0, ..mono }));
}

#[test]
fn opus_must_match_in_rate_and_channels() {
    for (sample_rate, channels, fits) in
        [(48_000, 2, true), (0, 0, true), (48_000, 1, false), (16_000, 2, false)]
    {
        let accepted = Format { codec: Codec::Opus, sample_rate, channels, profile: None };
        let mut negotiation = negotiation(&[("0", receive(Kind::Audio, &[accepted]))]);
        answer(&mut negotiation, PUBLISH);
        assert_eq!(negotiation.negotiated(&mid("0")).is_some(), fits, "{sample_rate}/{channels}");
    }
}

#[test]
fn a_subscription_is_told_its_sources_in_one_stream() {
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
        ("1", receive(Kind::Video, &[format(Codec::Vp8, None)])),
    ]);
    let first = answer(&mut negotiation, PUBLISH).answer;
    negotiation.bind(mid("2"), send(Kind::Audio, format(Codec::Opus, None)));
    negotiation.bind(mid("3"), send(Kind::Video, format(Codec::Vp8, None)));
    let second = answer(&mut negotiation, SUBSCRIBE).answer;
    let (first, second) = (sections(&first), sections(&second));
    assert_eq!(first[1..3], second[1..3], "what is negotiated stays as it is");
    assert!(second[0].contains(&"a=group:BUNDLE 0 1 2 3"));
    let tail = |section: &[&str]| {
        let at = section.iter().position(|line| *line == "a=sendonly").unwrap();
        section[at..]
            .iter()
            .filter(|l| l.contains("ssrc") || l.contains("msid"))
            .map(|l| l.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        tail(&second[3]),
        [
            "a=msid:subscription subscription-audio",
            "a=ssrc:1001 cname:42",
            "a=ssrc:1001 msid:subscription subscription-audio",
        ]
    );
    assert_eq!(
        tail(&second[4]),
        [
            "a=msid:subscription subscription-video",
            "a=ssrc-group:FID 1002 1003",
            "a=ssrc-group:FEC-FR 1002 1004",
            "a=ssrc:1002 cname:42",
            "a=ssrc:1002 msid:subscription subscription-video",
            "a=ssrc:1003 cname:42",
            "a=ssrc:1003 msid:subscription subscription-video",
            "a=ssrc:1004 cname:42",
            "a=ssrc:1004 msid:subscription subscription-video",
        ]
    );
}

#[test]
fn ended_unknown_and_unusable_m_lines_keep_their_place() {
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
        ("1", receive(Kind::Video, &[format(Codec::Vp8, None)])),
        ("3", send(Kind::Video, format(Codec::Vp8, None))),
    ]);
    answer(&mut negotiation, SUBSCRIBE);
    let outcome = answer(&mut negotiation, DATA_CHANNEL);
    assert_eq!(outcome.changes, []);
    let lines = sections(&outcome.answer);
    assert!(lines[0].contains(&"a=group:BUNDLE 0 1 2 3 4"));
    let heads: Vec<_> = lines[1..].iter().map(|section| section[0]).collect();
    assert_eq!(
        heads,
        [
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97 49",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    assert_eq!(
        lines[5][1..],
        [
            "c=IN IP4 0.0.0.0",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host",
            "a=end-of-candidates",
            "a=ice-ufrag:ours",
            "a=ice-pwd:ourpassword",
            "a=fingerprint:sha-256 AA:BB",
            "a=setup:passive",
            "a=mid:4",
            "a=sctp-port:5000",
            "a=max-message-size:65536",
        ]
    );
    let directions: Vec<_> = lines[1..5]
        .iter()
        .map(|section| {
            *section.iter().find(|l| matches!(**l, "a=inactive" | "a=sendonly" | "a=recvonly")).unwrap()
        })
        .collect();
    assert_eq!(directions, ["a=inactive", "a=inactive", "a=inactive", "a=sendonly"]);
    negotiation.release(&session("subscription"));
    let outcome = answer(&mut negotiation, DATA_CHANNEL);
    assert!(!outcome.answer.contains("a=sendonly") && !outcome.answer.contains("a=ssrc"));
    // A sender that was stopped and is used again goes on as it was agreed.
    let outcome = answer(&mut negotiation, PUBLISH);
    assert_eq!(outcome.answer.matches("a=recvonly").count(), 2);
}

#[test]
fn sessions_that_can_not_be_are_refused_whole() {
    let vp8 = format(Codec::Vp8, None);
    let opus = format(Codec::Opus, None);
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[opus])),
        ("1", receive(Kind::Video, &[format(Codec::H265, None)])),
        ("2", Binding { session: session("other"), ..receive(Kind::Audio, &[opus]) }),
        ("3", send(Kind::Audio, opus)),
    ]);
    let outcome = answer(&mut negotiation, SUBSCRIBE);
    assert_eq!(
        outcome.changes,
        [
            Change::Refused(session("publication"), "Video format unacceptable".into()),
            Change::Refused(session("other"), "m-line 2 does not send".into()),
            Change::Refused(session("subscription"), "m-line 3 is not of kind audio".into()),
        ]
    );
    assert_eq!(outcome.answer.matches("a=inactive").count(), 4);
    negotiation.bind(mid("3"), send(Kind::Video, vp8));
    assert_eq!(answer(&mut negotiation, SUBSCRIBE).changes, [Change::Negotiated(mid("3"))]);
}

#[test]
fn old_clients_call_their_m_lines_by_number() {
    let offer = PUBLISH.replace("a=mid:0", "a=mid:audio").replace("a=mid:1", "a=mid:video");
    let offer = offer.replace("BUNDLE 0 1", "BUNDLE audio video");
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
        ("1", receive(Kind::Video, &[format(Codec::Vp8, None)])),
    ]);
    let outcome = answer(&mut negotiation, &offer);
    assert_eq!(outcome.answer.matches("a=recvonly").count(), 2);
    assert!(
        outcome.answer.contains("a=mid:audio") && outcome.changes.contains(&Change::Negotiated(mid("1")))
    );
    assert_eq!(negotiation.binding_of_line(&mid("video")), Some(&mid("1")));
    negotiation.release(&session("publication"));
    assert_eq!(negotiation.binding_of_line(&mid("video")), None);
}

#[test]
fn old_clients_m_lines_may_stand_in_another_order_or_be_numbered_otherwise() {
    for (audio, video) in [("1", "0"), ("1", "2"), ("5", "1"), ("0", "1")] {
        let offer = PUBLISH.replace("a=mid:0", &format!("a=mid:{audio}"));
        let offer = offer.replace("a=mid:1\r\na=extmap:14", &format!("a=mid:{video}\r\na=extmap:14"));
        let offer = offer.replace("BUNDLE 0 1", &format!("BUNDLE {audio} {video}"));
        let mut negotiation = negotiation(&[
            ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
            ("1", receive(Kind::Video, &[format(Codec::Vp8, None)])),
        ]);
        let outcome = answer(&mut negotiation, &offer);
        assert_eq!(outcome.answer.matches("a=recvonly").count(), 2, "{audio} {video} {outcome:?}");
        let bound = [audio, video].map(|line| negotiation.binding_of_line(&mid(line)).unwrap().as_str());
        assert_eq!(bound, ["0", "1"]);
        assert_eq!(answer(&mut negotiation, &offer).changes.len(), 2, "sources only, the second time");
    }
}

#[test]
fn a_session_waits_for_its_m_line_and_takes_no_other() {
    // The m-line 2 of the offer belonged to a request that was refused; the one asked for is yet to come.
    let mut negotiation = negotiation(&[("4", send(Kind::Audio, format(Codec::Opus, None)))]);
    let outcome = answer(&mut negotiation, SUBSCRIBE);
    assert_eq!((outcome.changes, outcome.answer.matches("a=inactive").count()), (vec![], 4));
}

#[test]
fn the_handshake_is_opened_by_whom_the_offer_leaves_it_to() {
    for (setup, answered, role) in [
        ("actpass", "passive", DtlsRole::Server),
        ("active", "passive", DtlsRole::Server),
        ("passive", "active", DtlsRole::Client),
    ] {
        let offer = PUBLISH.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        let outcome = answer(&mut negotiation(&[]), &offer);
        assert_eq!(outcome.role, role);
        assert_eq!(outcome.answer.matches(&format!("a=setup:{answered}")).count(), 2);
    }
}

#[test]
fn streams_that_are_resent_as_they_were_carry_no_number_of_their_own() {
    let mut with_nack =
        PUBLISH.replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 transport-cc\r\na=rtcp-fb:111 nack");
    with_nack = with_nack.replace("a=sendonly", "a=recvonly");
    for (offer, numbered) in [(PUBLISH.replace("a=sendonly", "a=recvonly"), true), (with_nack, false)] {
        let mut negotiation = negotiation(&[("0", send(Kind::Audio, format(Codec::Opus, None)))]);
        answer(&mut negotiation, &offer);
        let negotiated = negotiation.negotiated(&mid("0")).unwrap();
        assert_eq!(negotiated.extensions.transport_cc.is_some(), numbered);
        assert_eq!(negotiated.has_feedback("transport-cc"), numbered);
    }
}

#[test]
fn an_offer_without_a_group_is_served_as_far_as_one_transport_goes() {
    let offer = PUBLISH.replace("a=group:BUNDLE 0 1\r\n", "");
    let mut negotiation = negotiation(&[
        ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
        ("1", Binding { session: session("video"), ..receive(Kind::Video, &[format(Codec::Vp8, None)]) }),
    ]);
    let outcome = answer(&mut negotiation, &offer);
    let reason = "m-line 1 is rejected or not bundled".to_owned();
    assert_eq!(outcome.changes.last(), Some(&Change::Refused(session("video"), reason)));
    assert!(outcome.answer.contains("m=video 0 ") && !outcome.answer.contains("BUNDLE"));
}

#[test]
fn what_is_no_offer_is_named() {
    let table = [
        ("".to_owned(), None),
        ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned(), Some(SdpError::Empty)),
        ("x".repeat(MAX_SDP + 1), Some(SdpError::TooLarge)),
        (PUBLISH.replace("a=mid:1", "a=mid:0"), Some(SdpError::BadMid(1))),
        (PUBLISH.replace("a=mid:1", "a=mid:1 1"), Some(SdpError::BadMid(1))),
        (PUBLISH.replace("a=mid:0\r\n", ""), Some(SdpError::BadMid(0))),
        (PUBLISH.replace("sha-256", "md5"), Some(SdpError::NoFingerprint)),
        (
            PUBLISH.replace("a=fingerprint:sha-256 97:", "a=fingerprint:sha-256 ZZ:"),
            Some(SdpError::NoFingerprint),
        ),
    ];
    for (offer, expected) in table {
        let found = Offer::parse(&offer).map(|_| ()).unwrap_err();
        match expected {
            Some(expected) => assert_eq!(found, expected),
            None => assert!(matches!(found, SdpError::Syntax(_) | SdpError::Empty), "{found}"),
        }
    }
    let many: String = (0..300).map(|i| format!("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{i}\r\n")).collect();
    let offer = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{many}");
    assert_eq!(Offer::parse(&offer).map(|_| ()), Err(SdpError::TooManyMLines));
}

#[test]
fn no_offer_is_too_strange() {
    let mut state = 3u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let scraps =
        ["", "=", ":", " ", "-1", "99999999999999999999", "\r\n", "a=", "m=", "\u{0}", "é", "a=mid:", "/"];
    for round in 0..3_000 {
        let original = [PUBLISH, SUBSCRIBE, DATA_CHANNEL, SIMULCAST][round % 4];
        let mut lines: Vec<String> = original.split("\r\n").map(str::to_owned).collect();
        for _ in 0..=random(4) {
            let at = random(lines.len());
            match random(4) {
                0 => drop(lines.remove(at)),
                1 => {
                    let copy = lines[random(lines.len())].clone();
                    lines.insert(at, copy);
                }
                2 => {
                    let cut = random(lines[at].len() + 1);
                    if lines[at].is_char_boundary(cut) {
                        lines[at].insert_str(cut, scraps[random(scraps.len())]);
                    }
                }
                _ => {
                    let cut = random(lines[at].len() + 1);
                    if lines[at].is_char_boundary(cut) {
                        lines[at].truncate(cut);
                    }
                }
            }
        }
        let Ok(offer) = Offer::parse(&lines.join("\r\n")) else { continue };
        let mut negotiation = negotiation(&[
            ("0", receive(Kind::Audio, &[format(Codec::Opus, None)])),
            ("1", receive(Kind::Video, &[format(Codec::H264, Some(H264Profile::High))])),
            ("3", send(Kind::Video, format(Codec::Vp9, None))),
        ]);
        let outcome = negotiation.answer(&offer, || 7);
        let m_lines = outcome.answer.split("\r\n").filter(|line| line.starts_with("m=")).count();
        assert_eq!(m_lines, offer.m_lines());
        Offer::parse(&outcome.answer.replace("sha-256 AA:BB", &format!("sha-256 {}", ["00"; 32].join(":"))))
            .expect("the answer is SDP");
    }
}
