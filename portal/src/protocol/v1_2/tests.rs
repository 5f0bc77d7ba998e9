//! What version 1.2 takes and shows.

use kaigi_proto::v1::{Layout, OptionalParameters, SessionError, StreamType, TransportReady};

use super::*;

fn publish_one(track: Value) -> Result<Publish, RequestError> {
    publish(json!({"media": {"tracks": [track]}}))
}

fn subscribe_video(more: Value) -> Result<SubscribeTrack, RequestError> {
    let mut track = json!({"type": "video", "mid": "3", "from": "s"});
    for (key, value) in more.as_object().unwrap() {
        track[key] = value.clone();
    }
    subscribe(json!({"media": {"tracks": [track]}})).map(|s| s.tracks[0].clone())
}

#[test]
fn a_publication_as_the_javascript_sdk_asks_for_it() {
    let request = publish(json!({
        "media": {"tracks": [{"type": "audio", "mid": "0", "source": "mic"},
                             {"type": "video", "mid": "1", "source": "screen-cast", "scalabilityMode": "L3T3"}]},
        "attributes": {"any": 1}, "transport": {"type": "webrtc", "id": "0a"}, "data": false
    }))
    .unwrap();
    assert_eq!(request.transport.unwrap().as_str(), "0a");
    assert_eq!(request.attributes.unwrap()["any"], 1);
    assert_eq!(request.tracks[1].source, "screen-cast");
    assert_eq!(request.tracks[1].kind(), MediaKind::Video);
    assert_eq!(publish_one(json!({"type": "audio", "mid": "0"})).unwrap().tracks[0].source, "");
}

#[test]
fn malformed_publications_are_refused_with_the_path() {
    let good = json!({"type": "audio", "mid": "0"});
    let table = [
        (Value::Null, "request invalid type"),
        (json!("x"), "request invalid type"),
        (json!([]), "request"),
        (json!({}), "request missing field `media`"),
        (json!({"media": 1}), "request.media invalid type"),
        (json!({"media": {}}), "request.media missing field `tracks`"),
        (json!({"media": {"tracks": {}}}), "request.media.tracks invalid type"),
        (json!({"media": {"tracks": []}}), "request.media.tracks should NOT have fewer"),
        (json!({"media": {"tracks": vec![good.clone(); 9]}}), "request.media.tracks should NOT have more"),
        (json!({"media": {"tracks": [good], "audio": true}}), "request.media"),
        (json!({"media": {"tracks": [good]}, "reconnection": true}), "request"),
        (json!({"media": {"tracks": [{"type": "audio"}]}}), "request.media.tracks[0] missing field `mid`"),
        (
            json!({"media": {"tracks": [{"type": "text", "mid": "0"}]}}),
            "request.media.tracks[0].type unknown variant",
        ),
        (
            json!({"media": {"tracks": [{"type": "audio", "mid": 0}]}}),
            "request.media.tracks[0].mid invalid type",
        ),
        (
            json!({"media": {"tracks": [{"type": "audio", "mid": ""}]}}),
            "request.media.tracks[0].mid should be",
        ),
        (
            json!({"media": {"tracks": [{"type": "audio", "mid": "a/b"}]}}),
            "request.media.tracks[0].mid should be",
        ),
        (
            json!({"media": {"tracks": [{"type": "audio", "mid": "0", "source": "file"}]}}),
            "request.media.tracks[0].source unknown variant",
        ),
        (
            json!({"media": {"tracks": [{"type": "audio", "mid": "0", "source": null}]}}),
            "request.media.tracks[0].source",
        ),
        (json!({"media": {"tracks": [good]}, "attributes": null}), "request.attributes invalid type"),
        (json!({"media": {"tracks": [good]}, "attributes": "x"}), "request.attributes invalid type"),
        (
            json!({"media": {"tracks": [good]}, "transport": {"type": "webrtc", "id": null}}),
            "request.transport.id",
        ),
        (json!({"media": {"tracks": [good]}, "transport": {"id": "a b"}}), "request.transport.id"),
        (
            json!({"media": {"tracks": [good]}, "transport": {"type": "webrtc", "mtu": 1}}),
            "request.transport",
        ),
        (
            json!({"media": {"tracks": [good]}, "transport": {"type": "quic"}}),
            "Only transports of type webrtc are available",
        ),
        (json!({"media": {"tracks": [good]}, "data": "yes"}), "request.data invalid type"),
        (json!({"media": null}), "request.media should be object"),
        (json!({"media": null, "data": false}), "request.media should be object"),
        (json!({"data": true}), "request missing field `media`"),
        (json!({"media": null, "data": null}), "request.data invalid type"),
    ];
    for (data, expected) in table {
        let text = publish(data.clone()).unwrap_err().to_string();
        assert!(text.starts_with(expected), "{data}: {text}");
    }
}

#[test]
fn a_subscription_asks_for_parameters() {
    let track = subscribe_video(json!({"format": {"codec": "h264", "profile": "CB"}, "parameters":
        {"resolution": {"width": 640, "height": 480}, "framerate": 15, "bitrate": "x0.6", "keyFrameInterval": 30}}))
    .unwrap();
    assert_eq!(track.format.unwrap().profile, "CB");
    assert_eq!(track.bitrate_multiplier, "x0.6");
    let parameters = track.parameters.unwrap();
    assert_eq!((parameters.framerate, parameters.key_frame_interval, parameters.bitrate), (15, 30, 0));
    assert_eq!(parameters.resolution, Some(Resolution { width: 640, height: 480 }));
}

#[test]
fn a_subscription_may_come_before_others() {
    let priority = |value| subscribe_video(json!({"parameters": {"priority": value}}));
    let track = priority(json!(100)).unwrap();
    assert_eq!((track.priority, track.parameters), (100, None));
    for bad in [json!(101), json!(-1), json!(1.5), json!("high"), json!(null)] {
        let text = priority(bad.clone()).unwrap_err().to_string();
        assert!(text.starts_with("request.media.tracks[0].parameters"), "{bad}: {text}");
    }
}

#[test]
fn empty_parameters_and_a_factor_of_one_ask_for_nothing() {
    for parameters in [json!({}), json!({"bitrate": "x1"}), json!({"bitrate": "x1.0"})] {
        let track = subscribe_video(json!({"parameters": parameters})).unwrap();
        assert_eq!((track.parameters, track.bitrate_multiplier.as_str()), (None, ""));
    }
    assert_eq!(
        subscribe_video(json!({"parameters": {"bitrate": 500}})).unwrap().parameters.unwrap().bitrate,
        500
    );
}

#[test]
fn malformed_subscriptions_are_refused_with_the_path() {
    let track = "request.media.tracks[0]";
    let table = [
        (json!({"from": "a b"}), ".from"),
        (json!({"from": ""}), ".from"),
        (json!({"format": {"codec": "opus"}}), ".format"),
        (json!({"format": {"codec": "vp8", "sampleRate": 1}}), ".format"),
        (json!({"format": {}}), ".format missing field `codec`"),
        (json!({"format": {"codec": "h264", "profile": "X"}}), ".format.profile"),
        (json!({"parameters": {"resolution": {"width": 1}}}), ".parameters.resolution"),
        (json!({"parameters": {"resolution": {"width": -1, "height": 2}}}), ".parameters.resolution"),
        (json!({"parameters": {"framerate": 0}}), ".parameters.framerate"),
        (json!({"parameters": {"framerate": 1e300}}), ".parameters.framerate"),
        (json!({"parameters": {"keyFrameInterval": "1"}}), ".parameters.keyFrameInterval"),
        (json!({"parameters": {"bitrate": "fast"}}), ".parameters.bitrate"),
        (json!({"parameters": {"bitrate": "x"}}), ".parameters.bitrate"),
        (json!({"parameters": {"bitrate": -5}}), ".parameters.bitrate"),
        (json!({"parameters": {"bitrate": [1]}}), ".parameters.bitrate"),
        (json!({"parameters": {"codec": "vp8"}}), ".parameters"),
    ];
    for (more, path) in table {
        let text = subscribe_video(more.clone()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{track}{path}")), "{more}: {text}");
    }
    let audio =
        json!({"type": "audio", "mid": "0", "from": "s", "format": {"codec": "iSAC", "sampleRate": 16000}});
    let request = subscribe(json!({"media": {"tracks": [audio]}})).unwrap();
    assert_eq!(
        request.tracks[0].format.as_ref().unwrap().codec,
        "isac",
        "the processes share lower-case names"
    );
    for (data, path) in [
        (Value::Null, "request.media should be object"),
        (json!({"from": "a b"}), "request.data.from"),
        (json!({"from": "s", "mid": "0"}), "request.data"),
        (json!(true), "request.data"),
    ] {
        let mut request = json!({"media": null, "data": data});
        if data.is_null() {
            request.as_object_mut().unwrap().remove("data");
        }
        let text = subscribe(request).unwrap_err().to_string();
        assert!(text.starts_with(path), "{text}");
    }
    let quic = json!({"media": null, "data": {"from": "s"}, "transport": {"type": "quic", "id": "0a"}});
    assert_eq!(subscribe(quic), Err(RequestError::TransportType));
}

#[test]
fn data_comes_beside_media_or_alone() {
    let track = json!({"type": "audio", "mid": "0"});
    for (media, tracks) in [(Value::Null, 0), (json!({"tracks": []}), 0), (json!({"tracks": [track]}), 1)] {
        let request =
            publish(json!({"media": media, "data": true, "transport": {"type": "webrtc"}})).unwrap();
        assert_eq!((request.data, request.tracks.len()), (true, tracks));
    }
    let track = json!({"type": "audio", "mid": "0", "from": "s"});
    for (media, tracks) in [(Value::Null, 0), (json!({"tracks": [track]}), 1)] {
        let request = subscribe(json!({"media": media, "data": {"from": "d"}})).unwrap();
        assert_eq!((request.data_from.unwrap().as_str(), request.tracks.len()), ("d", tracks));
    }
}

#[test]
fn a_stream_of_data_as_clients_see_it() {
    let mut stream = Stream { data: true, ..forward() };
    assert_eq!(stream_info(&stream)["data"], true);
    assert_eq!(foreign_stream_info(&stream)["data"], false, "OWT's SDK can't subscribe one that has both");
    stream.tracks.clear();
    let shown = foreign_stream_info(&stream);
    assert_eq!((&shown["data"], &shown["media"]), (&json!(true), &json!({"tracks": []})));
    assert_eq!(shown["info"]["owner"], "p");
}

fn forward() -> Stream {
    Stream {
        id: "s".into(),
        r#type: StreamType::Forward.into(),
        info_type: "webrtc".into(),
        owner: "p".into(),
        attributes: r#"{"a":1}"#.into(),
        tracks: vec![
            Track {
                id: "t-0".into(),
                kind: MediaKind::Audio.into(),
                source: "mic".into(),
                format: Some(MediaFormat {
                    codec: "opus".into(),
                    sample_rate: 48000,
                    channels: 2,
                    profile: String::new(),
                }),
                active: true,
                mid: "0".into(),
                ..Track::default()
            },
            Track {
                id: "t-1".into(),
                kind: MediaKind::Video.into(),
                source: "camera".into(),
                format: Some(MediaFormat {
                    codec: "h264".into(),
                    profile: "CB".into(),
                    ..MediaFormat::default()
                }),
                parameters: Some(VideoParameters {
                    resolution: Some(Resolution { width: 640, height: 480 }),
                    ..VideoParameters::default()
                }),
                active: false,
                mid: "1".into(),
                ..Track::default()
            },
        ],
        ..Stream::default()
    }
}

#[test]
fn a_forward_stream_as_clients_see_it() {
    assert_eq!(
        stream_info(&forward()),
        json!({
            "id": "s", "type": "forward", "data": false,
            "info": {"owner": "p", "type": "webrtc", "inViews": [], "attributes": {"a": 1}},
            "media": {"tracks": [
                {"id": "t-0", "type": "audio", "source": "mic", "mid": "0", "status": "active",
                 "format": {"codec": "opus", "sampleRate": 48000, "channelNum": 2}, "optional": {}},
                {"id": "t-1", "type": "video", "source": "camera", "mid": "1", "status": "inactive",
                 "format": {"codec": "h264", "profile": "CB"}, "parameters": {"resolution": {"width": 640, "height": 480}},
                 "optional": {"parameters": {"resolution": [], "framerate": [], "bitrate": [], "keyFrameInterval": []}}}]}
        })
    );
}

#[test]
fn a_mixed_stream_as_clients_see_it() {
    let mut stream = Stream {
        id: "r-common".into(),
        r#type: StreamType::Mixed.into(),
        label: "common".into(),
        layout: Some(Layout::default()),
        tracks: forward().tracks,
        ..Stream::default()
    };
    for track in &mut stream.tracks {
        (track.id, track.mid, track.source) = Default::default();
    }
    stream.tracks[1].optional_parameters = Some(OptionalParameters {
        resolutions: vec![Resolution { width: 320, height: 240 }],
        framerates: vec![6, 12],
        bitrates: vec!["x0.8".into()],
        key_frame_intervals: vec![100],
    });
    let shown = stream_info(&stream);
    assert_eq!(shown["data"], Value::Null);
    assert_eq!(shown["info"], json!({"label": "common", "activeInput": "unknown", "layout": []}));
    let video = &shown["media"]["tracks"][1];
    assert!(video.get("id").is_none() && video.get("source").is_none() && video.get("mid").is_none());
    assert_eq!(video["status"], "active");
    assert_eq!(
        video["optional"]["parameters"],
        json!({"resolution": [{"width": 320, "height": 240}], "framerate": [6, 12], "bitrate": ["x0.8"], "keyFrameInterval": [100]})
    );
}

#[test]
fn sources_that_break_the_javascript_sdk_are_left_out() {
    let mut stream = forward();
    for (audio, video, shown) in
        [("raw-file", "raw-file", [false, true]), ("streaming", "streaming", [false, false])]
    {
        stream.tracks[0].source = audio.into();
        stream.tracks[1].source = video.into();
        let info = stream_info(&stream);
        let has = |i: usize| info["media"]["tracks"][i].get("source").is_some();
        assert_eq!([has(0), has(1)], shown);
    }
}

#[test]
fn a_track_without_format_still_shows_one() {
    let mut stream = forward();
    stream.tracks[0].format = None;
    assert_eq!(stream_info(&stream)["media"]["tracks"][0]["format"], json!({"codec": "unknown"}));
}

#[test]
fn progress_goes_by_transport() {
    use progress::Progress as What;
    let told = |what| progress(Progress { transport_id: "t".into(), progress: Some(what) }).unwrap().1;
    assert_eq!(
        told(What::Answer("v=0".into())),
        json!({"id": "t", "status": "soac", "data": {"type": "answer", "sdp": "v=0"}})
    );
    assert_eq!(told(What::TransportReady(TransportReady {})), json!({"id": "t", "status": "ready"}));
    assert_eq!(told(What::SessionReady("s".into())), json!({"id": "t", "sessionId": "s", "status": "ready"}));
    assert_eq!(
        told(What::SessionError(SessionError { session_id: "s".into(), reason: "Node lost".into() })),
        json!({"id": "t", "sessionId": "s", "status": "error", "data": "Node lost"})
    );
    assert_eq!(
        told(What::TransportError("lost".into())),
        json!({"id": "t", "status": "error", "data": "lost"})
    );
    assert_eq!(progress(Progress { transport_id: "t".into(), progress: None }), None);
}
