"""The model file in use: watched, and read again when it was replaced."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.bundle import Bundle, BundleError, read_bundle

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class ModelFile:
    """The model of a path, and what becomes of that.

    Args:
        path: of the model file.

    Attributes:
        bundle: the model in use.
        refusal: why the file as it was read last cannot be used; empty if it can.

    Raises:
        BundleError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.refusal = ""
        self._stamp = self._seen = _stamp(path)
        self.bundle: Bundle = read_bundle(path)

    @property
    def name(self) -> str:
        """Name and version, as events say them."""
        return f"{self.bundle.info.name} {self.bundle.info.version}"

    def check(self, asked: bool = False) -> bool:
        """Read the file again if it was replaced and is written to its end; tells whether there is another model.

        One that cannot be used is refused, with a line in the log, and the old one stays. To be called now and then.

        Args:
            asked: read it in any case.
        """
        stamp = _stamp(self._path)
        # A file that is still being copied looks different each time.
        settled, self._seen = stamp == self._seen, stamp
        if not asked and (stamp == self._stamp or not settled):
            return False
        self._stamp = stamp
        try:
            bundle = read_bundle(self._path)
        except BundleError as error:
            self.refusal = str(error)
            log.error("model refused, %s goes on: %s", self.name, error)
            return False
        self.refusal = ""
        if bundle == self.bundle:
            return False
        before, self.bundle = self.name, bundle
        log.info("model %s replaced by %s", before, self.name)
        return True


def _stamp(path: Path) -> _Stamp | None:
    """Return what tells a file from the one before it; none while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
