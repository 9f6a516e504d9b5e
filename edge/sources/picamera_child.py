"""Writes the frames of a Raspberry Pi CSI camera to standard output, for `picamera.py` to read.

Runs with the system's Python, where picamera2 and its NumPy are, and so imports nothing of this project. Each message
is one letter and the numbers of HEADER: `F` is a frame, width, height and its BGR bytes after it; `E` an error, its
kind, the length of its text and the text after it. Ends when standard input does: then whoever started it is gone.
"""

import os
import struct
import sys
import threading

HEADER = struct.Struct("<cII")
MISSING, UNPLUGGED, LOST = 1, 2, 3


def main() -> None:
    """Write frames until standard input ends: arguments are index, width, height and frames per second."""
    index, width, height, fps = (int(argument) for argument in sys.argv[1:5])
    # libcamera writes to standard output too; only frames may reach the pipe.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        return complain(pipe, MISSING, str(error))
    try:
        camera = Picamera2(index)
    except (IndexError, RuntimeError) as error:
        return complain(pipe, UNPLUGGED, str(error))
    try:
        # "RGB888" is blue, green, red in memory.
        main_stream = {"size": (width, height), "format": "RGB888"}
        camera.configure(camera.create_video_configuration(main=main_stream, controls={"FrameRate": fps}))
        camera.start()
        while True:
            picture = camera.capture_array("main")
            rows, columns = picture.shape[:2]
            write(pipe, HEADER.pack(b"F", columns, rows) + picture.tobytes())
    except BrokenPipeError:
        return None
    except (RuntimeError, OSError) as error:
        return complain(pipe, LOST, str(error))


def leave_with_parent() -> None:
    """End the process when standard input does, whatever the camera is doing."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def write(pipe, content: bytes) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write all of it: a pipe takes as much as it has room for."""
    view = memoryview(content)
    while view:
        view = view[pipe.write(view) :]


def complain(pipe, kind: int, text: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write an error."""
    encoded = (text or "no reason given").encode()
    write(pipe, HEADER.pack(b"E", kind, len(encoded)) + encoded)


if __name__ == "__main__":
    main()
