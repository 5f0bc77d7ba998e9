//! Layers, and what protects streams.

use super::*;

/// What an answer says of the layers of the m-line "1".
fn layer_lines(answer: &str) -> Vec<&str> {
    let says = |line: &&str| {
        ["a=rid", "a=simulcast", "a=extmap:10", "a=extmap:11"].iter().any(|p| line.starts_with(p))
    };
    sections(answer)[2].iter().copied().filter(says).collect()
}

#[test]
fn layers_are_taken_up_by_rid_and_stay() {
    let mut negotiation = negotiation(&[("1", receive(Kind::Video, &[format(Codec::Vp8, None)]))]);
    let outcome = answer(&mut negotiation, SIMULCAST);
    assert_eq!(outcome.changes, [Change::Negotiated(mid("1"))], "layers announce no sources");
    let negotiated = negotiation.negotiated(&mid("1")).unwrap();
    assert_eq!(negotiated.layers.iter().map(Rid::as_str).collect::<Vec<_>>(), ["q", "h", "f"]);
    assert_eq!((negotiated.extensions.rid, negotiated.extensions.repaired_rid), (Some(10), Some(11)));
    let accepted = [
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "a=rid:q recv",
        "a=rid:h recv",
        "a=rid:f recv",
        "a=simulcast:recv q;h;f",
    ];
    assert_eq!(layer_lines(&outcome.answer), accepted);
    assert_eq!(layer_lines(&answer(&mut negotiation, SIMULCAST).answer), accepted);

    let fewer = SIMULCAST.replace("a=rid:h send\r\n", "").replace("send q;h;f", "send q;f");
    assert_eq!(
        layer_lines(&answer(&mut negotiation, &fewer).answer)[2..],
        ["a=rid:q recv", "a=rid:f recv", "a=simulcast:recv q;f"]
    );
    let none = SIMULCAST.replace("a=simulcast:send q;h;f\r\n", "");
    assert_eq!(
        layer_lines(&answer(&mut negotiation, &none).answer),
        accepted[..2],
        "nothing is answered that is not offered"
    );

    let (head, video) = SIMULCAST.split_at(SIMULCAST.find("m=video").unwrap());
    let stopped = format!("{head}{}", video.replace("a=sendonly", "a=inactive"));
    assert_eq!(
        layer_lines(&answer(&mut negotiation, &stopped).answer),
        accepted,
        "they stay when the sender stops"
    );
    negotiation.release(&session("publication"));
    assert_eq!(
        layer_lines(&answer(&mut negotiation, SIMULCAST).answer),
        accepted,
        "and when the session has ended"
    );
}

/// Chromium never again offers what was refused on any video m-line.
#[test]
fn the_extensions_that_tell_m_lines_and_layers_are_kept_on_every_m_line() {
    let mut negotiation = negotiation(&[
        ("1", receive(Kind::Video, &[format(Codec::Vp8, None)])),
        ("3", send(Kind::Video, format(Codec::Vp8, None))),
    ]);
    for end in [false, true] {
        if end {
            negotiation.release(&session("publication"));
            negotiation.release(&session("subscription"));
        }
        let answer = answer(&mut negotiation, SUBSCRIBE).answer;
        for (section, kind) in sections(&answer)[1..].iter().zip(["audio", "video", "audio", "video"]) {
            let kept = section.iter().filter(|line| line.ends_with("rtp-stream-id")).count();
            assert_eq!(kept, if kind == "video" { 2 } else { 0 });
            assert_eq!(section.iter().filter(|line| line.ends_with("sdes:mid")).count(), 1);
        }
    }
}

#[test]
fn layers_that_can_not_be_taken_are_left_out() {
    let rids = |count: usize| -> String { (0..count).map(|n| format!("a=rid:r{n} send\r\n")).collect() };
    let many =
        SIMULCAST.replace("a=simulcast:send q;h;f", &format!("{}a=simulcast:send r0;r1;~r2;r3;r4", rids(5)));
    let no_repair = SIMULCAST.replace("repaired-rtp-stream-id", "other");
    // The offer, the layers that are taken, and whether retransmissions are.
    let table = [
        (many, vec!["r0", "r1", "r2"], true),
        (SIMULCAST.replace("send q;h;f", "recv x send f;q"), vec!["f", "q"], true),
        (SIMULCAST.replace("a=rid:h send", "a=rid:h send pt=102"), vec!["q", "f"], true),
        (SIMULCAST.replace("a=rid:h send", "a=rid:h send pt=96,102;max-fps=15"), vec!["q", "h", "f"], true),
        (no_repair, vec!["q", "h", "f"], false),
        (SIMULCAST.replace("sdes:rtp-stream-id", "other"), vec![], true),
        (SIMULCAST.replace("extmap:10", "extmap:15"), vec![], true),
        (SIMULCAST.replace("simulcast:send", "simulcast:recv"), vec![], true),
        (SIMULCAST.replace("a=rid:", "a=rid:x"), vec![], true),
    ];
    for (offer, layers, rtx) in table {
        let mut negotiation = negotiation(&[("1", receive(Kind::Video, &[format(Codec::Vp8, None)]))]);
        let outcome = answer(&mut negotiation, &offer);
        let negotiated = negotiation.negotiated(&mid("1")).unwrap();
        assert_eq!(negotiated.layers.iter().map(Rid::as_str).collect::<Vec<_>>(), layers);
        assert_eq!(negotiated.rtx.is_some(), rtx);
        assert_eq!(outcome.answer.contains("a=simulcast:recv"), !layers.is_empty());
        assert_eq!(outcome.answer.matches("a=rid:").count(), layers.len());
    }
}

#[test]
fn repair_packets_are_agreed_on_with_who_takes_or_announces_them() {
    let lines = |answer: &str| -> Vec<String> {
        let says = |line: &&&str| line.contains(":49 ") || line.contains("FEC-FR");
        let video = |section: &Vec<&str>| section[0].contains("video") && !section.contains(&"a=inactive");
        let section = sections(answer).into_iter().find(video).unwrap();
        section.iter().filter(says).map(|line| (*line).to_owned()).collect()
    };
    let agreed =
        ["a=rtpmap:49 flexfec-03/90000", "a=rtcp-fb:49 transport-cc", "a=fmtp:49 repair-window=10000000"];
    let mut subscription = negotiation(&[("3", send(Kind::Video, format(Codec::Vp8, None)))]);
    let outcome = answer(&mut subscription, SUBSCRIBE);
    assert_eq!(lines(&outcome.answer), [&agreed[..], &["a=ssrc-group:FEC-FR 1001 1003"]].concat());

    let (types, attributes) = ("SAVPF 96", agreed.join("\r\n"));
    let offered = PUBLISH
        .replace(types, &format!("{types} 49"))
        .replace("a=rtpmap:97 rtx/90000", &format!("a=rtpmap:97 rtx/90000\r\n{attributes}"));
    let publication = || negotiation(&[("1", receive(Kind::Video, &[format(Codec::Vp8, None)]))]);
    let outcome = answer(&mut publication(), &offered);
    assert_eq!(lines(&outcome.answer), [""; 0], "nothing is said of who would send them");
    let ssrc = outcome.changes.iter().find_map(|change| match change {
        Change::Sources(_, ssrc, _) => Some(*ssrc),
        _ => None,
    });
    let group = format!("a=ssrc-group:FEC-FR {} 77\r\na=ssrc-group:FID", ssrc.unwrap());
    let announced = offered.replace("a=ssrc-group:FID", &group);
    let outcome = answer(&mut publication(), &announced);
    assert_eq!(lines(&outcome.answer), agreed);
    assert_eq!(outcome.changes.last(), Some(&Change::Repairs(mid("1"), Ssrc(77))));
    let layered = SIMULCAST.replace("a=ssrc-group:FID", &group);
    assert_eq!(lines(&answer(&mut publication(), &layered).answer), [""; 0]);
}

#[test]
fn redundant_sound_is_agreed_on_where_it_is_of_the_opus_that_is() {
    let subscribe = PUBLISH.replace("a=sendonly", "a=recvonly");
    let with_nack =
        subscribe.replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 transport-cc\r\na=rtcp-fb:111 nack");
    let publication = || receive(Kind::Audio, &[format(Codec::Opus, None)]);
    let subscription = || send(Kind::Audio, format(Codec::Opus, None));
    let table = [
        ("browsers send as what stands first", PUBLISH.to_owned(), publication(), Some("63 111")),
        ("to them either is sent", subscribe.clone(), subscription(), Some("111 63")),
        ("three blocks", PUBLISH.replace("111/111", "111/111/111"), publication(), Some("63 111")),
        ("of something else, too", PUBLISH.replace("111/111", "111/0"), publication(), None),
        ("of nothing", PUBLISH.replace("a=fmtp:63 111/111", "a=x:y"), publication(), None),
        ("of another clock", PUBLISH.replace("red/48000/2", "red/8000"), publication(), None),
        ("of no Opus", subscribe, send(Kind::Audio, format(Codec::Pcmu, None)), None),
        ("packets must be the same when sent again", with_nack, subscription(), None),
    ];
    for (why, offer, binding, formats) in table {
        let mut negotiation = negotiation(&[("0", binding)]);
        let answer = answer(&mut negotiation, &offer).answer;
        let audio = sections(&answer)[1].clone();
        let red = negotiation.negotiated(&mid("0")).unwrap().red.as_ref().map(|(number, _)| *number);
        assert_eq!(red, formats.map(|_| 63), "{why}");
        assert_eq!(audio.contains(&"a=rtpmap:63 red/48000/2"), formats.is_some(), "{why}");
        if let Some(formats) = formats {
            assert_eq!(audio[0], format!("m=audio 9 UDP/TLS/RTP/SAVPF {formats}"), "{why}");
        }
    }
}
