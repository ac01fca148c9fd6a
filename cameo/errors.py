"""Every error that Cameo raises on purpose.

    CameoError                 caught by the command lines: one sentence, exit code 1
    ├── PhotoError             a photo that cannot be read
    │   └── PhotoTooLarge      ... because it is beyond a limit, or does not fit into memory
    ├── RequestError           an argument, option or flag that is unknown or out of range
    ├── CheckpointError        weights that are missing, damaged, dangerous or of another network
    ├── BundleError            a bundle that is missing, incomplete, changed or too new
    ├── EngineError            an engine that cannot be built or run
    │   ├── EngineUnavailable  ... because this machine lacks a package, a driver or a device
    │   └── OutOfMemory        ... because memory ran out, or the budget for it is too small
    ├── Busy                   a call that is turned away at the door: try again later
    ├── Late                   a call whose deadline passed before it had a result
    ├── StageError             a stage of a build that failed or was killed
    ├── OutputError            a result that could not be written (disk full, no permission)
    ├── SigningError           a key, a certificate or a library that cannot sign by C2PA
    └── GateError              a measurement beyond its limit

A message says what happened, what was expected and what was found, and how to fix it, in one sentence.
"""


class CameoError(Exception):
    """Base of all errors whose message is meant for the user."""


class PhotoError(CameoError):
    """A photo cannot be read."""


class PhotoTooLarge(PhotoError):
    """A photo is beyond a limit of pixels, sides or aspect, or does not fit into memory."""


class RequestError(CameoError):
    """An argument, option or flag is unknown, out of range, or not for this model."""


class CheckpointError(CameoError):
    """Weights are missing, damaged, dangerous or belong to another network."""


class BundleError(CameoError):
    """A bundle is missing, incomplete, changed since it was built, or newer than this runtime."""


class EngineError(CameoError):
    """An engine cannot be built or run."""


class EngineUnavailable(EngineError):
    """An engine needs a package, a driver or a device that this machine lacks."""


class OutOfMemory(EngineError):
    """Memory ran out while an engine ran, or its budget is too small for it."""


class Busy(CameoError):
    """A call is turned away at the door: `reason` in a word, and when to try again."""

    def __init__(self, message: str, retry_after_s: float, reason: str) -> None:
        super().__init__(message)
        self.retry_after_s, self.reason = retry_after_s, reason


class Late(CameoError):
    """The deadline of a call passed before it had a result."""


class StageError(CameoError):
    """A stage of a build failed or was killed."""


class OutputError(CameoError):
    """A result could not be written."""


class SigningError(CameoError):
    """A key, a certificate or the library cannot sign by C2PA."""


class GateError(CameoError):
    """A measurement is beyond its limit."""
