//! Descriptions that are taken, and those that are not.

use super::*;

fn description() -> v1::ViewDescription {
    gstreamer::init().unwrap();
    let region = v1::LayoutRegion {
        stream_id: "s1".into(),
        region_id: "1".into(),
        left: "0/1".into(),
        top: "0/1".into(),
        width: "1/1".into(),
        height: "1/1".into(),
    };
    v1::ViewDescription {
        agent_id: "agent".into(),
        room_id: "r1".into(),
        label: "common".into(),
        epoch: 1,
        revision: 2,
        video: Some(v1::ViewVideo {
            format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
            resolution: Some(v1::Resolution { width: 640, height: 480 }),
            framerate: 24,
            bitrate: 600,
            key_frame_interval: 100,
            layout: Some(v1::Layout { regions: vec![region] }),
            filter: "none".into(),
            ..Default::default()
        }),
        audio_format: Some(v1::MediaFormat { codec: "opus".into(), ..Default::default() }),
        inputs: vec![v1::ViewInput {
            stream_id: "s1".into(),
            owner: "p1".into(),
            audio: Some(v1::TrackSource::default()),
            video: Some(v1::TrackSource::default()),
            audio_muted: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}
fn refused(change: impl FnOnce(&mut v1::ViewDescription)) -> DescriptionError {
    let mut view = description();
    change(&mut view);
    ViewSpec::try_from(view).unwrap_err()
}
fn refused_video(change: impl FnOnce(&mut v1::ViewVideo)) -> DescriptionError {
    refused(|view| change(view.video.as_mut().unwrap()))
}

#[test]
fn a_good_description_is_taken() {
    let spec = ViewSpec::try_from(description()).unwrap();
    let video = spec.video.unwrap();
    assert_eq!(video.key_frame_interval, Some(Duration::from_secs(100)));
    assert_eq!(video.regions.len(), 1);
    let input = &spec.inputs[&StreamId::new("s1").unwrap()];
    assert!(input.audio.is_none(), "a muted track is not fetched");
    assert!(input.video.is_some());
}

#[test]
fn views_may_be_audio_only_or_empty() {
    let view = v1::ViewDescription { video: None, inputs: vec![], ..description() };
    assert!(ViewSpec::try_from(view).unwrap().video.is_none());
    let mut view = description();
    view.video.as_mut().unwrap().layout = None;
    assert!(ViewSpec::try_from(view).unwrap().video.unwrap().regions.is_empty());
}

#[test]
fn bad_descriptions_are_refused() {
    assert!(matches!(refused(|v| v.room_id = "a/b".into()), DescriptionError::Id(_)));
    assert!(matches!(refused(|v| v.label = "ü".into()), DescriptionError::Id(_)));
    assert!(matches!(refused(|v| v.inputs[0].owner = String::new()), DescriptionError::Id(_)));
    assert!(matches!(refused(|v| v.inputs.push(v.inputs[0].clone())), DescriptionError::Twice(_)));
    assert!(matches!(refused(|v| v.audio_format = None), DescriptionError::Missing(_)));
    let isac = Some(v1::MediaFormat { codec: "isac".into(), ..Default::default() });
    assert!(matches!(refused(|v| v.audio_format = isac), DescriptionError::AudioFormat(_)));
    let many = |v: &mut v1::ViewDescription| v.inputs = vec![v.inputs[0].clone(); MAX_INPUTS + 1];
    assert!(matches!(refused(many), DescriptionError::Range { .. }));
}

#[test]
fn bad_pictures_are_refused() {
    let size = |width, height| Some(v1::Resolution { width, height });
    assert!(matches!(refused_video(|v| v.resolution = size(0, 480)), DescriptionError::Range { .. }));
    assert!(matches!(refused_video(|v| v.resolution = size(9000, 480)), DescriptionError::Range { .. }));
    assert_eq!(refused_video(|v| v.resolution = size(641, 480)), DescriptionError::Odd);
    assert!(matches!(refused_video(|v| v.framerate = 0), DescriptionError::Range { .. }));
    assert!(matches!(refused_video(|v| v.bitrate = 0), DescriptionError::Range { .. }));
    assert!(matches!(refused_video(|v| v.key_frame_interval = 1 << 31), DescriptionError::Range { .. }));
    assert!(matches!(refused_video(|v| v.filter = "sepia".into()), DescriptionError::Filter(_)));
    let area = |v: &mut v1::ViewVideo| v.layout.as_mut().unwrap().regions[0].left = "2/1".into();
    assert!(matches!(refused_video(area), DescriptionError::Geometry(_)));
    assert_eq!(refused_video(|v| v.motion_factor = -1.0), DescriptionError::MotionFactor(-1.0));
    let codec = |v: &mut v1::ViewVideo| v.format.as_mut().unwrap().codec = "h265".into();
    assert!(matches!(refused_video(codec), DescriptionError::Codec(_)));
}

#[test]
fn renditions_have_what_the_view_has_and_never_more() {
    let output = |id: &str, framerate, width, height| v1::VideoOutput {
        id: id.into(),
        format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
        resolution: Some(v1::Resolution { width, height }),
        framerate,
        ..Default::default()
    };
    let mut like = output("like", 0, 0, 0);
    like.resolution = None;
    let video_outputs =
        vec![like, output("fast", 25, 320, 240), output("wide", 24, 642, 240), output("ok", 5, 320, 240)];
    let view = v1::ViewDescription { video_outputs, ..description() };
    let renditions = ViewSpec::try_from(view.clone()).unwrap().renditions;
    let failed: Vec<String> = renditions.failures().into_iter().map(|failure| failure.id).collect();
    assert_eq!(failed, ["fast", "wide"]);
    let made: Vec<_> =
        renditions.video.values().map(|spec| (spec.size.unwrap().width, spec.framerate)).collect();
    assert_eq!(made, [(640, Some(24)), (320, Some(5))]);
    let sound_only = v1::ViewDescription { video: None, ..view };
    assert_eq!(ViewSpec::try_from(sound_only).unwrap().renditions.failures.len(), 4);
}

/// What a view shows of these inputs, of which each is a screen or not and has a place of that many quarters of the picture's width.
fn content(inputs: &[(bool, u32)]) -> Content {
    let mut view = description();
    let input = view.inputs[0].clone();
    let id = |index: usize| format!("s{index}");
    let screens = inputs.iter().enumerate();
    view.inputs = screens
        .map(|(index, (screen, _))| v1::ViewInput { stream_id: id(index), screen: *screen, ..input.clone() })
        .collect();
    let video = view.video.as_mut().unwrap();
    let region = video.layout.as_ref().unwrap().regions[0].clone();
    let regions = inputs.iter().enumerate().map(|(index, (_, quarters))| v1::LayoutRegion {
        stream_id: id(index),
        width: format!("{quarters}/4"),
        ..region.clone()
    });
    video.layout = Some(v1::Layout { regions: regions.collect() });
    ViewSpec::try_from(view).unwrap().content()
}

#[test]
fn a_view_shows_a_screen_where_that_is_its_only_or_largest_picture() {
    let (camera, screen) = (false, true);
    assert_eq!(content(&[(screen, 4)]), Content::Screen);
    assert_eq!(content(&[(camera, 4)]), Content::Camera);
    assert_eq!(content(&[(camera, 1), (screen, 3), (camera, 1)]), Content::Screen);
    assert_eq!(content(&[(camera, 3), (screen, 1)]), Content::Camera);
    assert_eq!(content(&[(screen, 2), (camera, 2)]), Content::Camera);
    assert_eq!(content(&[(camera, 2), (screen, 2)]), Content::Camera);
    assert_eq!(content(&[]), Content::Camera);
    let mut muted = description();
    (muted.inputs[0].screen, muted.inputs[0].video_muted) = (true, true);
    assert_eq!(ViewSpec::try_from(muted).unwrap().content(), Content::Camera);
}

#[test]
fn transcoders_are_of_one_kind() {
    let source = |kind: v1::MediaKind| v1::TrackSource { kind: kind.into(), ..Default::default() };
    let transcoder = |kind, audio_outputs| v1::TranscoderDescription {
        agent_id: "agent".into(),
        room_id: "r1".into(),
        id: "t1".into(),
        epoch: 1,
        revision: 1,
        source: Some(source(kind)),
        audio_outputs,
        ..Default::default()
    };
    let opus = v1::AudioOutput {
        id: "o".into(),
        format: Some(v1::MediaFormat { codec: "opus".into(), ..Default::default() }),
        minus_participant: String::new(),
    };
    TranscoderSpec::try_from(transcoder(v1::MediaKind::Audio, vec![opus.clone()])).unwrap();
    let refused = |kind| TranscoderSpec::try_from(transcoder(kind, vec![opus.clone()])).unwrap_err();
    assert_eq!(refused(v1::MediaKind::Video), DescriptionError::Kind);
    assert!(matches!(refused(v1::MediaKind::Unspecified), DescriptionError::Missing(_)));
}

#[test]
fn layers_are_taken_in_place_of_the_only_track() {
    let layer = |id: &str, width| v1::VideoLayer {
        source: Some(v1::TrackSource { track_id: id.into(), ..Default::default() }),
        resolution: Some(v1::Resolution { width, height: 180 }),
    };
    let mut view = description();
    let only = ViewSpec::try_from(view.clone()).unwrap();
    view.inputs[0].video_layers = vec![layer("q", 320), layer("h", 0)];
    let layered = ViewSpec::try_from(view.clone()).unwrap();
    let track = |spec: ViewSpec| spec.inputs.into_values().next().unwrap().video.unwrap();
    let size = Some(Size { width: 320, height: 180 });
    let source = |id| layer(id, 0).source.unwrap();
    let expected = LayeredTrack::new(vec![(source("q"), size), (source("h"), None)]).unwrap();
    assert_eq!(track(layered), expected);
    assert_eq!(track(only), LayeredTrack::single(v1::TrackSource::default()));
    view.inputs[0].video_layers = vec![layer("q", 320); MAX_LAYERS + 1];
    assert!(matches!(ViewSpec::try_from(view.clone()), Err(DescriptionError::Range { .. })));
    view.inputs[0].video_layers = vec![v1::VideoLayer::default()];
    assert!(matches!(ViewSpec::try_from(view), Err(DescriptionError::Missing(_))));
}

#[test]
fn epochs_come_before_revisions() {
    let version = |epoch, revision| Version { epoch, revision };
    assert!(version(2, 0) > version(1, 9));
    assert!(version(1, 2) > version(1, 1));
}
