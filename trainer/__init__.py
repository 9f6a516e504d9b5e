"""The desktop side: data sets to a model file. Needs the extra `trainer`; the daemon never imports it."""


class TrainerError(ValueError):
    """Something the user can put right; the message is one line that names what and how."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
