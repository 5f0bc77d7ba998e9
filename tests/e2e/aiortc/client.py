"""A client of aiortc that sends a drawing and a tone, and tells what comes back as one line of JSON.

usage: client.py BASE TRANSFORM    where BASE/offer and BASE/message are the server's
"""

import asyncio
import fractions
import json
import sys
import time
import urllib.request

import aioice.ice
import cv2
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT, RATE = 640, 480, 15
HERTZ, SAMPLES, TONE = 48_000, 960, 440
# How far from each other two edges are that are one: what a codec may move them, in pixels.
REACH = 2
DEADLINE = 40

# The server is on this machine, and there may be no other network.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def drawing():
    """Shapes of different brightness, I420."""
    picture = numpy.full((HEIGHT, WIDTH, 3), 40, numpy.uint8)
    cv2.rectangle(picture, (60, 60), (260, 400), (230, 230, 230), -1)
    cv2.circle(picture, (440, 150), 90, (40, 200, 250), -1)
    cv2.fillPoly(picture, [numpy.array([[360, 420], [600, 440], [480, 280]])], (220, 120, 60))
    return picture


class Drawn(MediaStreamTrack):
    kind = "video"

    def __init__(self):
        super().__init__()
        self.frame = VideoFrame.from_ndarray(drawing(), format="bgr24").reformat(format="yuv420p")
        self.began, self.count = time.monotonic(), 0

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.count / RATE - time.monotonic()))
        self.frame.pts, self.frame.time_base = self.count * 90_000 // RATE, fractions.Fraction(1, 90_000)
        self.count += 1
        return self.frame


class Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self):
        super().__init__()
        self.began, self.count = time.monotonic(), 0

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.count * SAMPLES / HERTZ - time.monotonic()))
        at = numpy.arange(self.count * SAMPLES, (self.count + 1) * SAMPLES)
        wave = (8_000 * numpy.sin(2 * numpy.pi * TONE * at / HERTZ)).astype(numpy.int16)
        frame = AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = HERTZ, self.count * SAMPLES, fractions.Fraction(1, HERTZ)
        self.count += 1
        return frame


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def shared(one, other):
    """Which part of the edges of one picture are edges of the other."""
    near = cv2.dilate(other, numpy.ones((2 * REACH + 1, 2 * REACH + 1), numpy.uint8))
    return float((near[one > 0] > 0).mean()) if one.any() else 0.0


def seen(frame):
    """What of a picture that came back is told."""
    grey = frame.to_ndarray(format="gray")
    _, edges = cv2.threshold(grey, 128, 255, cv2.THRESH_BINARY)
    told = {"size": [frame.width, frame.height]}
    if edges.shape == (HEIGHT, WIDTH):
        own = cv2.cvtColor(drawing(), cv2.COLOR_BGR2GRAY)
        canny = cv2.Canny(own, 100, 200)
        told["difference"] = float(numpy.abs(grey.astype(int) - own).mean())
        told["edges"] = [shared(edges, canny), shared(canny, edges)]
    return told


async def pictures(track, result):
    """The first pictures of a stream are coarse: looks at each, and keeps the best."""
    while True:
        told = seen(await track.recv())
        result["frames"] = result.get("frames", 0) + 1
        worth = min(told.get("edges", [0]))
        if "picture" not in result or worth >= min(result["picture"].get("edges", [0])):
            result["picture"] = told


async def sounds(track, result):
    while True:
        frame = await track.recv()
        wave = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0].astype(float)
        if numpy.abs(wave).max() > 2_000:
            spectrum = numpy.abs(numpy.fft.rfft(wave * numpy.hanning(len(wave)), 1 << 15))
            result["tone"] = float(spectrum.argmax() * frame.sample_rate / (1 << 15))


async def main(base, transform):
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    result, heard, tasks = {}, asyncio.Queue(), []
    peer.addTrack(Drawn())
    peer.addTrack(Tone())
    channel = peer.createDataChannel("any label")
    channel.on("message", heard.put_nowait)
    opened = asyncio.Event()
    channel.on("open", opened.set)

    @peer.on("track")
    def back(track):
        tasks.append(asyncio.ensure_future((pictures if track.kind == "video" else sounds)(track, result)))

    await peer.setLocalDescription(await peer.createOffer())
    offer = {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type, "video_transform": transform}
    answer = await asyncio.to_thread(post, f"{base}/offer", offer)
    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
    await opened.wait()
    result["pongs"] = []
    result["took_ms"] = []
    for number in range(3):
        began = time.monotonic()
        channel.send(f"ping {number}")
        result["pongs"].append(await heard.get())
        result["took_ms"].append((time.monotonic() - began) * 1000)
    await asyncio.to_thread(post, f"{base}/message", {"session": answer["session"], "text": "from outside"})
    result["message"] = await heard.get()
    while result.get("frames", 0) < 3 * RATE or "tone" not in result:
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await peer.close()
    print(json.dumps(result))


asyncio.run(asyncio.wait_for(main(*sys.argv[1:3]), DEADLINE))
