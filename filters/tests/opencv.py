"""Edges by OpenCV of pictures of several kinds, for tests/opencv.rs.

usage: opencv.py DIRECTORY. Writes NAME.luma (grey pixels) for each picture, and NAME.A.N.LOW.HIGH.edges (0 or 255 a pixel) for each setting:
A = aperture, N = 1 or 2. Prints a line "NAME WIDTH HEIGHT" for each picture.
"""

import pathlib
import sys

import cv2
import matplotlib
import numpy

cv2.setNumThreads(1)
to = pathlib.Path(sys.argv[1])
random = numpy.random.default_rng(7)

photograph = pathlib.Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
photo = cv2.imread(str(photograph), cv2.IMREAD_GRAYSCALE)
assert photo is not None, photograph

drawing = numpy.full((240, 320), 40, numpy.uint8)
cv2.circle(drawing, (100, 120), 70, 200, -1, cv2.LINE_AA)
cv2.rectangle(drawing, (150, 30), (300, 180), 120, 5)
cv2.line(drawing, (0, 239), (319, 10), 255, 3, cv2.LINE_AA)
cv2.putText(drawing, "kaigi", (40, 220), cv2.FONT_HERSHEY_SIMPLEX, 2, 230, 3, cv2.LINE_AA)

y, x = numpy.mgrid[0:360, 0:640]
pictures = {
    "photo": photo,
    "photo-720p": cv2.resize(photo, (1280, 720), interpolation=cv2.INTER_CUBIC),
    "drawing": drawing,
    "noise": random.integers(0, 256, (200, 301), dtype=numpy.uint8),
    "soft-noise": cv2.GaussianBlur(random.integers(0, 256, (201, 300), dtype=numpy.uint8), (0, 0), 1.5),
    "waves": (127 + 80 * numpy.sin(x / 9) * numpy.cos(y / 13) + 40 * numpy.sin(x * y / 2000)).astype(numpy.uint8),
}
# With the thresholds that leave some edges and not all.
settings = {3: [(50, 100), (100, 200), (0, 400)], 5: [(800, 2000)], 7: [(10001, 30007)]}

for name, picture in pictures.items():
    picture = numpy.ascontiguousarray(picture)
    (to / f"{name}.luma").write_bytes(picture.tobytes())
    for aperture, thresholds in settings.items():
        for low, high in thresholds:
            for norm in (1, 2):
                edges = cv2.Canny(picture, low, high, apertureSize=aperture, L2gradient=norm == 2)
                (to / f"{name}.{aperture}.{norm}.{low}.{high}.edges").write_bytes(edges.tobytes())
    print(name, picture.shape[1], picture.shape[0])
