"""A camera that speaks RTSP (GStreamer's server): H.264 and Opus of a colour and a tone at /stream/main, for one who has the password.

usage: rtsp-camera.py PORT USER PASSWORD COLOUR TONE       COLOUR as 0xAARRGGBB, TONE in Hz
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PORT, USER, PASSWORD, COLOUR, TONE = sys.argv[1:]
LAUNCH = f"""( videotestsrc is-live=true pattern=solid-color foreground-color={COLOUR} ! video/x-raw,width=320,height=240,framerate=15/1
    ! x264enc tune=zerolatency speed-preset=superfast bitrate=300 key-int-max=15 ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96
    audiotestsrc is-live=true freq={TONE} volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay name=pay1 pt=97 )"""

Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(LAUNCH)
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(PORT)
server.get_mount_points().add_factory("/stream/main", factory)

auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "viewer")
auth.add_basic(GstRtspServer.RTSPAuth.make_basic(USER, PASSWORD), token)
server.set_auth(auth)
factory.add_role_from_structure(Gst.Structure.from_string("viewer, media.factory.access=true, media.factory.construct=true")[0])

server.attach(None)
GLib.MainLoop().run()
