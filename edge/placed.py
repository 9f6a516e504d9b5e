"""Mistakes that show only when the settings are put to use: they name a key, and get file and line of it here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edge.bundle import BundleError
from edge.settings import SettingsError
from edge.settings_file import with_place
from edge.yunet import DetectorError


@contextlib.contextmanager
def placed(config: Path | None) -> Iterator[None]:
    """Name the place in the settings file in the message of each error that begins with a key or is about a model.

    Args:
        config: the settings file; none if there is none.

    Raises:
        SettingsError: in place of such an error.
    """
    try:
        yield
    except BundleError as error:
        raise SettingsError(with_place(config, f"model: {error}")) from None
    except DetectorError as error:
        raise SettingsError(with_place(config, f"detector.model: {error}")) from None
    except (SettingsError, OSError) as error:
        message = with_place(config, str(error))
        if message == str(error):  # about something else
            raise
        raise SettingsError(message) from None
