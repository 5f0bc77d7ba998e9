//! Elements that do not work: a tracer sees each one that starts, and tampers with it as it is told.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gstreamer as gst;
use gstreamer::{glib, prelude::*, subclass::prelude::*};
use parking_lot::Mutex;

/// What an element does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Works.
    None,
    /// Takes a buffer and never comes back.
    Hang,
    /// Takes what it is given and makes nothing of it.
    Swallow,
    /// Reports an error and takes nothing more.
    Error,
}

/// An element that was started.
pub(crate) struct Element {
    kind: String,
    fault: Mutex<Fault>,
    taken: AtomicU64,
}

impl Element {
    pub(crate) fn breaks(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// How many buffers it was given and worked on.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Workshop {
    started: Mutex<Vec<Arc<Element>>>,
    /// The type of which the next one does not start.
    refused: Mutex<Option<&'static str>>,
    hang: AtomicBool,
}

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(Workshop::default)
}

/// The elements of that GObject type which were started since the tracer works, the oldest first.
pub(crate) fn started(kind: &str) -> Vec<Arc<Element>> {
    let started = workshop().started.lock();
    started.iter().filter(|element| element.kind == kind).cloned().collect()
}

/// The next element of that type hangs when it is to start, as long as [`let_go`] is not called.
pub(crate) fn next_hangs_at_its_start(kind: &'static str) {
    workshop().hang.store(true, Ordering::Relaxed);
    *workshop().refused.lock() = Some(kind);
}

/// Ends all that hangs.
pub(crate) fn let_go() {
    workshop().hang.store(false, Ordering::Relaxed);
    workshop().started.lock().iter().for_each(|element| element.breaks(Fault::None));
}

/// Begins to look at the elements of this process.
pub(crate) fn tamper() {
    static TRACER: OnceLock<Tamperer> = OnceLock::new();
    gst::init().unwrap();
    TRACER.get_or_init(glib::Object::new);
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub(crate) struct Tamperer;

    #[glib::object_subclass]
    impl ObjectSubclass for Tamperer {
        const NAME: &'static str = "KaigiTestTamperer";
        type Type = super::Tamperer;
        type ParentType = gst::Tracer;
    }

    impl ObjectImpl for Tamperer {
        fn constructed(&self) {
            self.parent_constructed();
            self.register_hook(TracerHook::ElementChangeStatePre);
        }
    }
    impl GstObjectImpl for Tamperer {}
    impl TracerImpl for Tamperer {
        fn element_change_state_pre(&self, _: u64, element: &gst::Element, change: gst::StateChange) {
            if change == gst::StateChange::NullToReady {
                start(element);
            }
        }
    }
}

glib::wrapper! {
    pub(crate) struct Tamperer(ObjectSubclass<imp::Tamperer>) @extends gst::Tracer, gst::Object;
}

fn start(element: &gst::Element) {
    let kind = element.type_().name().to_owned();
    let workshop = workshop();
    let refused = workshop.refused.lock().take_if(|refused| **refused == kind).is_some();
    while refused && workshop.hang.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let Some(pad) = element.static_pad("sink") else { return };
    let known = Arc::new(Element { kind, fault: Mutex::new(Fault::None), taken: AtomicU64::new(0) });
    workshop.started.lock().push(Arc::clone(&known));
    let element = element.downgrade();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        loop {
            let fault = *known.fault.lock();
            match fault {
                Fault::Hang => std::thread::sleep(Duration::from_millis(5)),
                Fault::Swallow => return gst::PadProbeReturn::Handled,
                Fault::Error => {
                    if let Some(element) = element.upgrade() {
                        gst::element_error!(element, gst::StreamError::Failed, ["as asked for"]);
                    }
                    return gst::PadProbeReturn::Handled;
                }
                Fault::None => {
                    known.taken.fetch_add(1, Ordering::Relaxed);
                    return gst::PadProbeReturn::Ok;
                }
            }
        }
    });
}
