"""Draws the README's picture of the preview: `python -m deploy.preview.picture deploy/preview/page.jpg`.

Runs the daemon on the demo's clip, beside a camera that is not there, and takes Chromium's picture of the page. It
needs what `make test` installs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from edge.demo import CLIP
from tests.parts import HOST, eventually, free_port
from tests.parts.browser import Browser
from tests.parts.daemon import Daemon

#: Seconds that the clip is played for, so that there is a timeline.
PLAYED = 90.0
#: Seconds after which rates are those of a whole period, and until the picture has caught up with the faces.
RATES, ONE_LOOK = 6.0, 0.6
WIDTH, QUALITY = 1100, 80


def settings(port: int) -> dict[str, object]:
    """Return the settings of a node with one camera that works and one that does not."""
    return {
        "node": "living-room",
        "cameras": {
            "door": {"source": str(CLIP), "loop": True},
            "garden": {"source": f"rtsp://{HOST}:{free_port()}/stream1"},
        },
        "mqtt": {"host": HOST, "port": free_port()},
        "metrics": {"host": HOST, "port": port},
        "preview": {"enabled": True},
    }


def draw(out: Path, played: float = PLAYED, width: int = WIDTH, scheme: str = "light") -> None:
    """Take the picture, a JPEG."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, Daemon(settings(port), Path(folder)), Browser() as browser:
        time.sleep(played)
        address = f"http://{HOST}:{port}/preview"
        with browser.view(address, width=width, scheme=scheme, offline=False, rest=False) as view:
            page = view.page
            eventually(lambda: "/s" in page.locator(".figures").first.inner_text(), 30, "rates")
            time.sleep(RATES)
            page.locator(".face:not(.away)").first.wait_for(timeout=60_000)
            time.sleep(ONE_LOOK)
            page.screenshot(path=str(out), type="jpeg", quality=QUALITY, full_page=True)


def main() -> None:
    """Take the picture that the command line names."""
    (out,) = sys.argv[1:]
    draw(Path(out))


if __name__ == "__main__":
    main()
