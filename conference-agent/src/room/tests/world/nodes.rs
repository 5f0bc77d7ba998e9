//! What nodes answer.

use super::*;

impl World {
    /// Answers calls, and those that follow, as good nodes do.
    pub(in crate::room::tests) fn answer_all(&mut self) {
        while let Some((call, callee, request)) = self.calls.pop_front() {
            let result = self.good_answer(&callee, &request);
            self.put(Input::CallDone { call, result });
        }
    }

    /// Answers the calls waiting now that `which` picks with an error.
    pub(in crate::room::tests) fn fail(&mut self, which: impl Fn(&CallRequest) -> bool, error: &CallError) {
        let (failing, rest): (VecDeque<_>, VecDeque<_>) =
            self.calls.drain(..).partition(|(_, _, r)| which(r));
        self.calls = rest;
        assert!(!failing.is_empty(), "no such call");
        for (call, _, _) in failing {
            self.put(Input::CallDone { call, result: Err(error.clone()) });
        }
    }

    pub(in crate::room::tests) fn good_answer(
        &self,
        callee: &Callee,
        request: &CallRequest,
    ) -> Result<CallReply, CallError> {
        let nobody = || match self.full {
            true => CallError::Full("all are".into()),
            false => CallError::Unavailable("none is alive".into()),
        };
        match request {
            CallRequest::Schedule(schedule) => {
                let picked = match v1::Purpose::try_from(schedule.purpose) {
                    Ok(v1::Purpose::Access) => self.access,
                    Ok(v1::Purpose::Streaming) => self.streaming,
                    _ => self.mixer,
                };
                picked.map(|name| CallReply::Scheduled(node(name))).ok_or_else(nobody)
            }
            CallRequest::SetView(view) => {
                let Callee::Mixer(at) = callee else { panic!("a view at {callee:?}") };
                let track = |what: &str| format!("{}-{}-{what}", at.worker, view.label);
                let minus = view.minus_participants.iter().map(|name| {
                    (participant(name), source(track(&format!("minus-{name}")), at, Kind::Audio))
                });
                Ok(CallReply::View(Box::new(ViewOutputs {
                    video: view.video.as_ref().map(|_| source(track("video"), at, Kind::Video)),
                    audio: Some(source(track("audio"), at, Kind::Audio)),
                    layers: match self.layering {
                        true => {
                            let layers = view.video_layers.iter();
                            layers.map(|layer| source(track(&layer.id), at, Kind::Video)).collect()
                        }
                        false => Vec::new(),
                    },
                    minus: minus.collect(),
                    others: self.make(at, &view.label, &view.video_outputs, &view.audio_outputs),
                })))
            }
            CallRequest::SetTranscoder(transcoder) => {
                let Callee::Mixer(at) = callee else { panic!("a transcoder at {callee:?}") };
                let (video, audio) = (&transcoder.video_outputs, &transcoder.audio_outputs);
                assert_ne!(video.is_empty(), audio.is_empty(), "of one kind");
                Ok(CallReply::Outputs(self.make(at, &transcoder.id, video, audio)))
            }
            CallRequest::SetOutput(output) if self.refusing => {
                Err(CallError::Refused(format!("{} may not be", output.id.len())))
            }
            CallRequest::SetInput(_) if self.refusing => Err(CallError::Refused("it may not be".into())),
            CallRequest::SetInput(input) => {
                let Callee::Streaming(at) = callee else { panic!("an input at {callee:?}") };
                let listen_url = match input.listen_key.as_str() {
                    "" => String::new(),
                    _ => format!("rtmp://{}/live", at.worker),
                };
                Ok(CallReply::Ingest { listen_url })
            }
            CallRequest::SetOutput(_) => Ok(CallReply::Egress {
                host: "host".into(),
                file: "file".into(),
                manifest: "manifest".into(),
            }),
            CallRequest::EstimateBandwidth(_) => Ok(CallReply::Bandwidth(1_200_000)),
            CallRequest::AdoptRoom(adopt) => {
                let there = adopt.transport_ids.iter().map(|id| TransportId::new(id).unwrap());
                Ok(CallReply::Adopted(there.collect()))
            }
            CallRequest::AdoptTransports(_) => Ok(CallReply::Missing(Vec::new())),
            _ => Ok(CallReply::Done),
        }
    }

    /// Outputs as a mixer makes them.
    fn make(&self, at: &Node, of: &str, video: &[v1::VideoOutput], audio: &[v1::AudioOutput]) -> MadeOutputs {
        let mut made = MadeOutputs::default();
        let video = video.iter().map(|o| (&o.id, &o.format, video_name(o), Kind::Video));
        let audio = audio.iter().map(|o| (&o.id, &o.format, audio_name(o), Kind::Audio));
        for (id, format, name, kind) in video.chain(audio) {
            let format = Format::from_wire(format.clone().unwrap());
            if self.lacking.contains(&format.codec.as_str()) {
                made.failures.insert(id.clone(), format!("No encoder of {}", format.codec));
            } else if !self.omitting {
                let track = TrackId::new(format!("{}-{of}-{name}", at.worker)).unwrap();
                made.sources.insert(id.clone(), Source { track, node: at.clone(), kind, format });
            }
        }
        made
    }
}
