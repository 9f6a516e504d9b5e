"""The package `fer` on a clip, frame by frame, as its own documentation has it; run by an environment of its own.

`python fer_peer.py CLIP`: plays the clip once for each line on stdin, and answers with a line of JSON: for each frame
the seconds that it took, read and analysed, and how many faces it had.
"""

from __future__ import annotations

import json
import sys
import time

import cv2
from fer.fer import FER  # type: ignore[import-not-found]

WARM = 5


def main() -> None:
    """Answer until stdin ends."""
    peer = FER()
    for _ in range(WARM):
        peer.detect_emotions(cv2.VideoCapture(sys.argv[1]).read()[1])
    print("ready", flush=True)
    for _ in sys.stdin:
        capture, said = cv2.VideoCapture(sys.argv[1]), []
        while True:
            started = time.perf_counter()
            ok, frame = capture.read()
            if not ok:
                break
            faces = peer.detect_emotions(frame)
            said.append((time.perf_counter() - started, len(faces)))
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
