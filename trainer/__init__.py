"""The desktop side: data sets to a model file. Needs the extra `trainer`; the daemon never imports it."""


class TrainerError(ValueError):
    """Something the user can put right; the message is one line that names what and how."""
