"""The package `fer` on a clip, frame by frame, as its own documentation has it; run by an environment of its own.

`python fer_peer.py CLIP`: plays the clip once for each line on stdin, and answers with a line of JSON: for each frame
the seconds it took and how many faces it had.
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
    capture, frames = cv2.VideoCapture(sys.argv[1]), []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    peer = FER()
    for frame in frames[:WARM]:
        peer.detect_emotions(frame)
    print("ready", flush=True)
    for _ in sys.stdin:
        said = []
        for frame in frames:
            started = time.perf_counter()
            faces = peer.detect_emotions(frame)
            said.append((time.perf_counter() - started, len(faces)))
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
