"""A WHIP client of GStreamer (webrtcbin): VP8 and Opus, until it is told to end; then it ends its session.

usage: whip-client.py ENDPOINT TOKEN COLOUR TONE       a colour as 0xAARRGGBB, and a tone in Hz
       whip-client.py ENDPOINT TOKEN clock LATE        what tells when it was made; pictures are sent LATE ms after their sound

With each second of the clock the picture goes from dark grey to light grey, in 27 steps, and a click of 1 kHz and 20 ms begins it. When each
picture and each sample is made is counted, and not measured: both begin together, to the sample.
"""
import os
import signal
import sys
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENDPOINT, TOKEN, LOOK, SOUND = sys.argv[1:]
WIDTH, HEIGHT = 320, 240
# Pictures a second of a clock: few rates of recordings go into it, so that theirs are made at all ages of its pictures.
RATE = 27
COLOUR = f"""videotestsrc is-live=true pattern=solid-color foreground-color={LOOK} ! video/x-raw,width={WIDTH},height={HEIGHT},framerate=15/1"""
TONE = f"""audiotestsrc is-live=true freq={SOUND} volume=0.5"""
# Made in time, as a camera makes them, and then held up.
SHADES = f"""appsrc name=shades is-live=true format=time max-buffers=2 caps=video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={RATE}/1
    ! identity sync=true ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 min-threshold-time={SOUND}000000"""
CLICKS = """audiotestsrc is-live=true samplesperbuffer=480 wave=ticks freq=1000 sine-periods-per-tick=20 volume=0.5"""
PICTURES, SOUNDS = (SHADES, CLICKS) if LOOK == "clock" else (COLOUR, TONE)
LAUNCH = f"""webrtcbin name=peer bundle-policy=max-bundle
    {PICTURES} ! vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! peer.
    {SOUNDS} ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay
    ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! peer."""

Gst.init(None)
pipeline = Gst.parse_launch(LAUNCH)
peer = pipeline.get_by_name("peer")
for i in range(2):
    peer.emit("get-transceiver", i).set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
loop = GLib.MainLoop()
session = None
made = 0


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


def shade(source, _length):
    """The next picture of a clock: of one grey, which tells the part of its second."""
    global made
    grey = 52 + round(152 * (made % RATE) / RATE)
    picture = Gst.Buffer.new_wrapped(bytes([grey]) * (WIDTH * HEIGHT) + bytes([128]) * (WIDTH * HEIGHT // 2))
    picture.pts = made * Gst.SECOND // RATE
    picture.duration = Gst.SECOND // RATE
    made += 1
    source.emit("push-buffer", picture)


def end(*_):
    if session:
        with urllib.request.urlopen(request("DELETE", session), timeout=10) as answer:
            print(answer.status, flush=True)
    loop.quit()


peer.connect("on-negotiation-needed", negotiate)
peer.connect("notify::ice-gathering-state", gathered)
if shades := pipeline.get_by_name("shades"):
    shades.connect("need-data", shade)
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, end)
pipeline.set_state(Gst.State.READY)
# Its reports are to tell when things were captured, not when they are sent.
peer.get_by_name("rtpbin").set_property("rtcp-sync-send-time", False)
pipeline.set_state(Gst.State.PLAYING)
loop.run()
pipeline.set_state(Gst.State.NULL)
sys.stdout.flush()
# Python's bindings would free the agent once more.
os._exit(0)
