//! What participants do, and what the access-node makes of it.

use super::*;

impl World {
    pub(in crate::room::tests) fn join(&mut self, name: &str, role: &str) -> Result<v1::Joined, Refusal> {
        let join = Join {
            participant: participant(name),
            user: format!("{{\"name\":\"{name}\"}}"),
            role: role.into(),
            isp: String::new(),
            region: String::new(),
        };
        match self.run(Command::Join(join))? {
            Reply::Joined(joined) => Ok(*joined),
            other => panic!("{other:?}"),
        }
    }

    /// Lets several presenters in and forgets what they were told.
    pub(in crate::room::tests) fn presenters(&mut self, names: &[&str]) {
        for name in names {
            self.join(name, "presenter").unwrap();
        }
        self.forget();
    }

    pub(in crate::room::tests) fn publish_command(name: &str, kinds: &[Kind], first_mid: u32) -> Command {
        let track = |(i, kind): (usize, &Kind)| PublishTrack {
            kind: *kind,
            mid: (first_mid as usize + i).to_string(),
            source: Some(if *kind == Kind::Audio { "mic" } else { "camera" }.into()),
        };
        Command::Publish(Publish {
            participant: participant(name),
            tracks: kinds.iter().enumerate().map(track).collect(),
            data: false,
            any_label: false,
            attributes: None,
            transport: None,
            own_transport: false,
        })
    }

    /// Asks to publish; the nodes answer, nothing is negotiated.
    pub(in crate::room::tests) fn announce(
        &mut self,
        name: &str,
        kinds: &[Kind],
    ) -> Result<Published, Refusal> {
        match self.run(Self::publish_command(name, kinds, 0))? {
            Reply::Session { session, transport, .. } => {
                Ok(Published { stream: stream(session.as_str()), transport })
            }
            other => panic!("{other:?}"),
        }
    }

    /// Publishes and negotiates opus and VP8.
    pub(in crate::room::tests) fn publish(&mut self, name: &str, kinds: &[Kind]) -> Published {
        let published = self.announce(name, kinds).unwrap();
        self.establish(&published, kinds);
        published
    }

    pub(in crate::room::tests) fn establish(&mut self, published: &Published, kinds: &[Kind]) {
        let tracks = kinds.iter().enumerate().map(|(i, kind)| Negotiated {
            track: Some(TrackId::new(format!("{}-{i}", published.transport)).unwrap()),
            mid: i.to_string(),
            kind: *kind,
            format: if *kind == Kind::Audio { opus() } else { vp8() },
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        let change = AccessChange::Established { session, tracks: tracks.collect() };
        self.access_event(&published.transport, change);
    }

    /// The m-lines in their order, with what the client sends.
    pub(in crate::room::tests) fn establish_publication_as(
        &mut self,
        published: &Published,
        formats: &[(Kind, Format)],
    ) {
        let tracks = formats.iter().enumerate().map(|(i, (kind, format))| Negotiated {
            track: Some(TrackId::new(format!("{}-{i}", published.transport)).unwrap()),
            mid: i.to_string(),
            kind: *kind,
            format: format.clone(),
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        self.access_event(
            &published.transport,
            AccessChange::Established { session, tracks: tracks.collect() },
        );
    }

    /// One m-line of several layers.
    pub(in crate::room::tests) fn establish_layers(&mut self, published: &Published, rids: &[&str]) {
        let tracks = rids.iter().map(|rid| Negotiated {
            track: Some(TrackId::new(format!("{}-0:{rid}", published.transport)).unwrap()),
            mid: "0".into(),
            kind: Kind::Video,
            format: vp8(),
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        self.access_event(
            &published.transport,
            AccessChange::Established { session, tracks: tracks.collect() },
        );
    }

    pub(in crate::room::tests) fn access_event(&mut self, transport: &TransportId, change: AccessChange) {
        let node = self.room.node_of(transport).unwrap_or_else(|| node("access-1")).worker;
        self.put(Input::Access {
            node,
            event: AccessEvent { transport: transport.clone(), answer: 0, change },
        });
        self.answer_all();
    }

    pub(in crate::room::tests) fn mixer_event(&mut self, mixer: &str, change: MixerChange) {
        let event = MixerEvent { label: "common".into(), change };
        self.put(Input::Mixer { node: WorkerId::new(mixer).unwrap(), event });
        self.answer_all();
    }

    pub(in crate::room::tests) fn subscribe_command(name: &str, from: &str, kinds: &[Kind]) -> Command {
        let track = |(i, kind): (usize, &Kind)| SubscribeTrack {
            kind: *kind,
            mid: format!("s{i}"),
            from: from.into(),
            rid: None,
            wish: Wish::default(),
        };
        Command::Subscribe(Subscribe {
            participant: participant(name),
            tracks: kinds.iter().enumerate().map(track).collect(),
            data_from: None,
            transport: None,
            own_transport: false,
        })
    }

    pub(in crate::room::tests) fn subscribe(
        &mut self,
        name: &str,
        from: &str,
        kinds: &[Kind],
    ) -> Result<SubscriptionId, Refusal> {
        match self.run(Self::subscribe_command(name, from, kinds))? {
            Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Negotiates the first of what is offered of each kind.
    pub(in crate::room::tests) fn establish_subscription(&mut self, id: &SubscriptionId) {
        self.establish_as(id, &[]);
    }

    /// The client takes these formats, and what comes first where it has no say.
    pub(in crate::room::tests) fn establish_as(&mut self, id: &SubscriptionId, formats: &[Format]) {
        let tracks = self.negotiated(id, |offered| {
            let wanted = |format: &&Format| formats.contains(format);
            offered.iter().find(wanted).unwrap_or(&offered[0]).clone()
        });
        let transport = self.room.state.subscriptions[id].transport.clone();
        let session = SessionId::new(id.as_str()).unwrap();
        self.access_event(&transport, AccessChange::Established { session, tracks });
    }

    /// What an access node negotiates for a subscription that it was asked for, if the client picks so of the formats offered.
    pub(in crate::room::tests) fn negotiated(
        &self,
        id: &SubscriptionId,
        mut pick: impl FnMut(&[Format]) -> Format,
    ) -> Vec<Negotiated> {
        let tracks = self.opened.get(id.as_str()).map(|open| open.tracks.as_slice()).unwrap_or_default();
        let negotiated = |track: &v1::SubscriptionTrack| Negotiated {
            track: None,
            mid: track.mid.clone(),
            kind: Kind::from_wire(track.kind).unwrap(),
            format: pick(&track.formats.iter().cloned().map(Format::from_wire).collect::<Vec<_>>()),
        };
        tracks.iter().map(negotiated).collect()
    }
}
