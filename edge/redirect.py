"""Where a camera says that it is instead, and what of its settings goes there (RTSP's 3xx, RFC 2326). Pure."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from edge.settings import CameraSettings
from edge.terminal import shown

#: So many places one after the other are followed.
REDIRECTS = 3


def moved(settings: CameraSettings, place: str) -> CameraSettings:
    """Return the settings of a camera that says it is elsewhere.

    The log-in stays behind where that is another host, or the way there is not encrypted any more.

    Args:
        settings: of where it is asked.
        place: of the `Location` header.

    Raises:
        ValueError: there is no RTSP.
    """
    try:
        here, there = urlsplit(settings.source), urlsplit(urljoin(_http(settings.source), place))
        host, _ = there.hostname, there.port
    except ValueError:
        raise ValueError("sends us to what is no address") from None
    scheme = here.scheme if there.scheme == "http" and not urlsplit(place).scheme else there.scheme
    if scheme not in ("rtsp", "rtsps") or not host:
        raise ValueError(shown(f"sends us to {scheme}://{host or ''}, which is not followed"))
    source = there._replace(scheme=scheme, netloc=there.netloc.rpartition("@")[2]).geturl()
    as_safe = host == here.hostname and (scheme == "rtsps" or here.scheme == "rtsp")
    login = {} if as_safe else {"username": None, "password": None}
    return settings.model_copy(update={"source": source, **login})


def _http(source: str) -> str:
    """Return an address as one of a scheme whose relative addresses are known to Python."""
    return "http" + source[source.index(":") :]
