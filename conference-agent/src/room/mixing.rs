//! What is mixed where: inputs of views, layouts, filters, and the description of a view for its mixer.

use kaigi_proto::{
    ids::{StreamId, TrackId},
    v1::{self, stream_event::Change},
};
use kaigi_room_config::{BgColor, Corner, FitPolicy, ViewVideo, default_bitrate};
use serde_json::Value;

use super::{
    Room,
    feeds::Demand,
    filters::Filter,
    media::{Format, Kind, Source, resolution_to_wire},
    outputs::{audio_outputs_to_wire, video_outputs_to_wire},
    refusal::Refusal,
    state::{Participant, Phase, Track},
    views::View,
};

impl Room {
    pub(super) fn view(&self, label: &str) -> Option<&View> {
        self.state.views.iter().find(|view| view.label == label)
    }

    pub(super) fn view_mut(&mut self, label: &str) -> Option<&mut View> {
        self.state.views.iter_mut().find(|view| view.label == label)
    }

    /// Mixes a stream into a view; one that is in it already stays as it is.
    pub(super) fn mix(&mut self, stream: &StreamId, label: &str) -> Result<(), Refusal> {
        let publication = self.state.publications.get(stream).ok_or(Refusal::InvalidStream)?;
        if publication.phase != Phase::Established {
            return Err(Refusal::StreamNotReady);
        }
        if publication.is_data_only() {
            return Err(Refusal::NoTrackToMix);
        }
        if publication.is_encrypted() {
            return Err(Refusal::StreamIsEncrypted);
        }
        let has_video = publication.first_track(Kind::Video).is_some();
        let view = self.view_mut(label).ok_or(Refusal::InvalidView)?;
        if view.inputs.contains(stream) {
            return Ok(());
        }
        let moved = add_input(view, stream, has_video);
        self.views_changed = true;
        self.tell_replaced(stream);
        if moved {
            self.tell_layout(label);
        }
        Ok(())
    }

    /// Takes a stream out of a view; one that is not in it is fine.
    pub(super) fn unmix(&mut self, stream: &StreamId, label: &str) -> Result<(), Refusal> {
        if !self.state.publications.contains_key(stream) {
            return Err(Refusal::InvalidStream);
        }
        let view = self.view_mut(label).ok_or(Refusal::InvalidView)?;
        if !view.inputs.contains(stream) {
            return Ok(());
        }
        let moved = remove_input(view, stream);
        self.views_changed = true;
        self.tell_replaced(stream);
        if moved {
            self.tell_layout(label);
        }
        Ok(())
    }

    /// Mixes a new stream into every view. Returns the views whose layouts have to be told.
    pub(super) fn mix_into_all(&mut self, stream: &StreamId) -> Vec<String> {
        let publication = self.state.publications.get(stream);
        let has_video = publication.is_some_and(|p| p.first_track(Kind::Video).is_some());
        self.views_changed = true;
        let views = self.state.views.iter_mut();
        views.filter_map(|view| add_input(view, stream, has_video).then(|| view.label.clone())).collect()
    }

    /// Takes a stream out of all views. Returns the views whose layouts have to be told.
    pub(super) fn unmix_from_all(&mut self, stream: &StreamId) -> Vec<String> {
        self.views_changed = true;
        let views = self.state.views.iter_mut();
        views.filter_map(|view| remove_input(view, stream).then(|| view.label.clone())).collect()
    }

    /// Tells everybody the new layout of a view.
    pub(super) fn tell_layout(&mut self, label: &str) {
        self.views_changed = true;
        let Some(view) = self.view_mut(label) else { return };
        view.layout_told = true;
        let stream = view.stream.clone();
        if let Some(layout) = view.picture.as_ref().map(|picture| picture.layout()) {
            self.tell_stream(&stream, Change::Layout(layout));
        }
    }

    /// The view as it is to be, under its present revision.
    pub(super) fn describe_view(&self, view: &View, demand: &Demand) -> Option<v1::ViewDescription> {
        let demand = demand.views.get(&view.label).cloned().unwrap_or_default();
        let spec = self.config.views.iter().find(|spec| spec.label == view.label)?;
        let video = spec.video.as_ref().zip(view.picture.as_ref());
        Some(v1::ViewDescription {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            label: view.label.clone(),
            epoch: self.settings.epoch,
            revision: view.revision,
            video: video.map(|(spec, picture)| describe_video(spec, picture.layout(), &view.filter)),
            audio_format: Some(Format::from(&spec.audio.format).to_wire()),
            voice_activity: spec.audio.vad || spec.video.as_ref().is_some_and(is_moved_by_voices),
            inputs: view.inputs.iter().filter_map(|stream| self.describe_input(stream)).collect(),
            minus_participants: demand.own_mixes.into_iter().map(String::from).collect(),
            video_outputs: video_outputs_to_wire(&demand.outputs),
            audio_outputs: audio_outputs_to_wire(&demand.outputs),
            video_layers: video_outputs_to_wire(&self.view_layers(&view.label)),
        })
    }

    /// The layers of a picture, for who chooses among them; none if the track is all there is.
    pub(super) fn layers_to_wire(&self, stream: &StreamId, track: &TrackId) -> Vec<v1::VideoLayer> {
        let publication = self.state.publications.get(stream);
        let layers = publication.into_iter().flat_map(|publication| publication.layers(track));
        let layers: Vec<_> = layers
            .filter_map(|layer| {
                Some(v1::VideoLayer {
                    source: Some(self.track_source(stream, &layer.id)?.to_wire()),
                    resolution: layer.resolution.map(resolution_to_wire),
                })
            })
            .collect();
        if layers.len() > 1 { layers } else { Vec::new() }
    }

    /// Whether a track's picture is a screen or window that is shared.
    pub(super) fn shows_screen(&self, stream: &StreamId, track: &TrackId) -> bool {
        let tracks = self.state.publications.get(stream).map(|publication| &publication.tracks);
        tracks.is_some_and(|tracks| tracks.iter().any(|present| present.id == *track && present.is_screen()))
    }

    fn describe_input(&self, stream: &StreamId) -> Option<v1::ViewInput> {
        let publication = self.state.publications.get(stream)?;
        let node = self.node_of_publication(publication)?;
        let source = |track: &Track| {
            let (track, kind, format) = (track.id.clone(), track.kind, track.format.clone());
            Source { track, node: node.clone(), kind, format }.to_wire()
        };
        let (audio, video) = (publication.first_track(Kind::Audio), publication.first_track(Kind::Video));
        let (filter, filter_parameters) = self.input_filter(stream);
        Some(v1::ViewInput {
            stream_id: stream.to_string(),
            owner: publication.owner.to_string(),
            name: self.state.participants.get(&publication.owner).map(name).unwrap_or_default(),
            audio: audio.map(source),
            video: video.map(source),
            video_layers: video.map(|track| self.layers_to_wire(stream, &track.id)).unwrap_or_default(),
            audio_muted: audio.is_some_and(|track| !track.active),
            video_muted: video.is_some_and(|track| !track.active),
            filter,
            filter_parameters,
            screen: video.is_some_and(Track::is_screen),
        })
    }
}

/// Returns whether the layout changed.
fn add_input(view: &mut View, stream: &StreamId, has_video: bool) -> bool {
    if view.inputs.contains(stream) {
        return false;
    }
    view.inputs.push(stream.clone());
    has_video && view.picture.as_mut().is_some_and(|picture| picture.add(stream.clone()))
}

/// Returns whether the layout changed.
fn remove_input(view: &mut View, stream: &StreamId) -> bool {
    view.inputs.retain(|input| input != stream);
    if view.active_input.as_ref() == Some(stream) {
        view.active_input = None;
    }
    view.picture.as_mut().is_some_and(|picture| picture.remove(stream))
}

/// Whether the picture depends on who speaks.
fn is_moved_by_voices(video: &ViewVideo) -> bool {
    video.keep_active_input_primary || video.decoration.active_border.is_some()
}

/// What a participant is called: the user of its token, or what that names so.
fn name(participant: &Participant) -> String {
    let named = |user: &Value| {
        let members = ["displayName", "name"].into_iter();
        let member = members.filter_map(|name| user.get(name)?.as_str()).next();
        user.as_str().or(member).map(str::to_owned)
    };
    serde_json::from_str(&participant.user).ok().as_ref().and_then(named).unwrap_or_default()
}

fn rgb(colour: &BgColor) -> u32 {
    u32::from(colour.r) << 16 | u32::from(colour.g) << 8 | u32::from(colour.b)
}

fn describe_video(spec: &ViewVideo, layout: v1::Layout, filter: &Filter) -> v1::ViewVideo {
    let parameters = &spec.parameters;
    let default = || {
        default_bitrate(parameters.resolution, parameters.framerate, &spec.format.codec, spec.motion_factor)
    };
    let decoration = &spec.decoration;
    v1::ViewVideo {
        format: Some(Format::from(&spec.format).to_wire()),
        resolution: Some(resolution_to_wire(parameters.resolution)),
        framerate: parameters.framerate,
        bitrate: parameters.bitrate.unwrap_or_else(default),
        key_frame_interval: parameters.key_frame_interval,
        background_rgb: rgb(&spec.bg_color),
        crop: spec.layout.fit_policy == FitPolicy::Crop,
        layout: Some(layout),
        filter: filter.name().to_owned(),
        filter_parameters: filter.parameters(),
        motion_factor: spec.motion_factor,
        avatars: decoration.avatars,
        captions: decoration.captions,
        active_border_rgb: decoration.active_border.as_ref().map(rgb),
        clock: decoration.clock,
        animation_ms: decoration.animation,
        avatar_picture: decoration.avatar_picture.clone().unwrap_or_default(),
        logo: decoration.logo.as_ref().map(|logo| v1::Logo {
            picture: logo.picture.clone(),
            corner: corner(logo.corner).into(),
            height_percent: logo.height,
        }),
    }
}

fn corner(corner: Corner) -> v1::Corner {
    match corner {
        Corner::TopLeft => v1::Corner::TopLeft,
        Corner::TopRight => v1::Corner::TopRight,
        Corner::BottomLeft => v1::Corner::BottomLeft,
        Corner::BottomRight => v1::Corner::BottomRight,
    }
}
