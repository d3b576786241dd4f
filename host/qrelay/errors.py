"""The errors a user may meet: each message names what was given, what is allowed and what to do."""

__all__ = [
    "CalibrationError",
    "ConfigError",
    "IdentityMismatch",
    "LinkClosed",
    "LinkError",
    "LinkTimeout",
    "QrelayError",
    "RegisterError",
    "RunError",
    "RunFolderError",
    "StationRefused",
]


class QrelayError(Exception):
    """Anything that went wrong in a way a user can act on."""


class CalibrationError(QrelayError):
    """A measurement that no calibration can be computed from; the message names what is wrong with it."""


class ConfigError(QrelayError):
    """A run file or a setting that cannot be used; the message names the key."""


class RegisterError(QrelayError):
    """A register or table was used outside its limits; the message names it, the value and the limit."""


class LinkError(QrelayError):
    """The link to a station failed."""


class LinkTimeout(LinkError):
    """A station gave no answer."""


class LinkClosed(LinkError):
    """The port is gone: unplugged, closed by the other side, or closed by us."""


class StationRefused(LinkError):
    """A station answered a request with ERROR."""


class IdentityMismatch(QrelayError):
    """What answers is no station of this protocol, or of another version of it."""


class RunError(QrelayError):
    """A run could not be carried out."""


class RunFolderError(QrelayError):
    """A run folder cannot be written or read."""
