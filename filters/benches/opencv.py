"""Times OpenCV's Canny with one thread, for benches/edges.rs.

usage: opencv.py DIRECTORY TIMES. Writes NAME.luma (grey pixels) for each picture of 1280×720, and NAME.edges (0 or 255 a pixel). Prints a line
"NAME MILLISECONDS" for each, the median of so many times.
"""

import pathlib
import statistics
import sys
import time

import cv2
import matplotlib
import numpy

cv2.setNumThreads(1)
to, times = pathlib.Path(sys.argv[1]), int(sys.argv[2])
random = numpy.random.default_rng(7)
size = (1280, 720)

photograph = pathlib.Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
photo = cv2.imread(str(photograph), cv2.IMREAD_GRAYSCALE)
assert photo is not None, photograph
photo = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
drawing = numpy.full(size[::-1], 40, numpy.uint8)
cv2.circle(drawing, (400, 360), 210, 200, -1, cv2.LINE_AA)
cv2.rectangle(drawing, (600, 90), (1200, 540), 120, 15)
cv2.putText(drawing, "kaigi", (160, 660), cv2.FONT_HERSHEY_SIMPLEX, 6, 230, 9, cv2.LINE_AA)

pictures = {
    "photograph": photo,
    "grainy-photograph": cv2.add(photo, random.integers(0, 24, photo.shape, dtype=numpy.uint8)),
    "drawing": drawing,
    "noise": random.integers(0, 256, photo.shape, dtype=numpy.uint8),
}
for name, picture in pictures.items():
    picture = numpy.ascontiguousarray(picture)
    (to / f"{name}.luma").write_bytes(picture.tobytes())
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        edges = cv2.Canny(picture, 100, 200, apertureSize=3, L2gradient=False)
        taken.append(time.perf_counter() - begun)
    (to / f"{name}.edges").write_bytes(edges.tobytes())
    print(name, statistics.median(taken) * 1000)
