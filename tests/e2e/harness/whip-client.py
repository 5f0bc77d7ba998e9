"""A WHIP client of GStreamer (webrtcbin): VP8 and Opus of a colour and a tone, until it is told to end; then it ends its session.

usage: whip-client.py ENDPOINT TOKEN COLOUR TONE       COLOUR as 0xAARRGGBB, TONE in Hz
"""
import signal
import sys
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENDPOINT, TOKEN, COLOUR, TONE = sys.argv[1:]
LAUNCH = f"""webrtcbin name=peer bundle-policy=max-bundle
    videotestsrc is-live=true pattern=solid-color foreground-color={COLOUR} ! video/x-raw,width=320,height=240,framerate=15/1
    ! vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! peer.
    audiotestsrc is-live=true freq={TONE} volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay
    ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! peer."""

Gst.init(None)
pipeline = Gst.parse_launch(LAUNCH)
peer = pipeline.get_by_name("peer")
for i in range(2):
    peer.emit("get-transceiver", i).set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
loop = GLib.MainLoop()
session = None


def request(method, url, **headers):
    headers["authorization"] = f"Bearer {TOKEN}"
    return urllib.request.Request(url, method=method, headers={key.replace("_", "-"): value for key, value in headers.items()})


def offer_made(promise):
    # The offer is a part of the reply, which therefore has to be held.
    reply = promise.get_reply()
    peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())


def negotiate(*_):
    peer.emit("create-offer", None, Gst.Promise.new_with_change_func(offer_made))


def gathered(*_):
    if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        GLib.idle_add(publish)


def publish():
    global session
    offer = peer.get_property("local-description").sdp.as_text()
    with urllib.request.urlopen(request("POST", ENDPOINT, content_type="application/sdp"), offer.encode(), timeout=10) as answer:
        session = urllib.parse.urljoin(ENDPOINT, answer.headers["location"])
        text = answer.read().decode()
    _, message = GstSdp.SDPMessage.new_from_text(text)
    description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
    peer.emit("set-remote-description", description, None)
    print(session, flush=True)


def end(*_):
    if session:
        with urllib.request.urlopen(request("DELETE", session), timeout=10) as answer:
            print(answer.status, flush=True)
    loop.quit()


peer.connect("on-negotiation-needed", negotiate)
peer.connect("notify::ice-gathering-state", gathered)
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, end)
pipeline.set_state(Gst.State.PLAYING)
loop.run()
pipeline.set_state(Gst.State.NULL)
