"""An RTSP server (GStreamer's) that takes one stream by ANNOUNCE and RECORD at /live/KEY, and writes it to a file as MPEG-TS.

usage: rtsp-server.py PORT KEY FILE
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PORT, KEY, FILE = sys.argv[1:]
# The client describes its sound first.
LAUNCH = f"""( rtpmp4gdepay name=depay0 ! aacparse ! queue ! mux. rtph264depay name=depay1 ! video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! queue ! mux.
    mpegtsmux name=mux ! filesink location={FILE} buffer-mode=unbuffered async=false sync=false )"""

Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch(LAUNCH)
factory.set_latency(100)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(PORT)
server.get_mount_points().add_factory(f"/live/{KEY}", factory)
server.attach(None)
GLib.MainLoop().run()
