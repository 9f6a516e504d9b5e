"""A real RTSP server, standing in for cameras."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

from tests.parts import HOST, accepts, free_port
from tests.parts.child import Child


class RtspServer(Child):
    """Serves the H.264 clips of a folder in real time, on a port that stays the same over restarts.

    Args:
        clips: the folder with the clips.
        folder: for its output.
    """

    name = "rtsp-server"

    def __init__(self, clips: Path, folder: Path) -> None:
        self.port = free_port()
        program = Path(sys.executable).with_name("rtsp-server")
        assert program.is_file(), f"{program.name} is not installed: run make test, or pip install -e .[test]"
        ports = ["-p", str(self.port), "-cp", str(free_port())]
        super().__init__([str(program), "-d", str(clips.resolve()), "-H", HOST, *ports], folder)

    def url(self, name: str, port: int = 0, *, loop: bool = True) -> str:
        """Return the address of a clip of the folder.

        Args:
            name: of the clip.
            port: of a line to the server; its own by default.
            loop: play for ever, not once.
        """
        return f"rtsp://{HOST}:{port or self.port}/{quote(name)}?play_count={0 if loop else 1}"

    def ready(self) -> bool:
        """Tell whether it accepts connections."""
        return accepts(self.port)
