"""The daemon: video in, emotion events out. Never imports TensorFlow, never imports `trainer`."""

__version__ = "0.1.0"
