"""The daemon: video in, emotion events out. Never imports TensorFlow, never imports `trainer`."""

import os

__version__ = "0.1.0"

# Why a stream or picture fails is told by us, in one line that names it; FFmpeg's and OpenCV's own lines name nothing.
# Both variables are read when cv2 is loaded, hence here.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
