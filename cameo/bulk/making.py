"""Makes the picture of one photo: read, run, written. "-" is standard input and standard output."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cameo.bulk.photos import STANDARD, Job
from cameo.errors import OutputError, PhotoError, RequestError
from cameo.images import Picture, ReadOptions, read_picture, side_by_side
from cameo.provenance.saving import encoded, save
from cameo.spent import spent, timed

if TYPE_CHECKING:
    from cameo.flows import Outcome, Progress
    from cameo.loading import Loaded
    from cameo.provenance.signing import Signer


@dataclass(frozen=True)
class Making:
    """How pictures are made: each photo is the one that the model takes as `varying`, while `others` stay.

    With `beside`, photos are put to the left of the result. `format` is that of what goes to standard output.
    """

    varying: str
    others: Mapping[str, Picture] = field(default_factory=dict)
    reading: ReadOptions = field(default_factory=ReadOptions)
    metadata: bool = True
    signer: Signer | None = None
    beside: bool = False
    format: str = "png"

    def make(self, model: Loaded, job: Job, progress: Progress | None = None) -> Outcome:
        """Write the picture of one photo; what the model made of it, its `times_s` with "read" and "write".

        Raises:
            PhotoError: nothing can be made of the photo.
            OutputError: the picture cannot be written.
        """
        with timed() as times_s, spent("read"):
            picture = read(job.photo, self.reading)
        photos = {**self.others, self.varying: picture}
        outcome = model.run(photos, progress=progress)
        shown = outcome
        if self.beside:
            shown = replace(
                outcome, image=side_by_side([*(photos[name].pixels for name in model.takes), outcome.image])
            )
        exif = picture.exif if self.metadata else b""
        with timed() as writing_s, spent("write"):
            if job.result == STANDARD:
                _send(encoded(shown, f".{self.format}", exif, self.signer))
            else:
                save(shown, job.result, exif, self.signer)
        return replace(outcome, times_s={**outcome.times_s, **times_s, **writing_s})


def read(photo: Path, options: ReadOptions) -> Picture:
    """The photo in a file or, by the name "-", that which standard input brings.

    Raises:
        PhotoError: it cannot be read.
    """
    if photo != STANDARD:
        return read_picture(photo, options)
    content = sys.stdin.buffer.read()
    if not content:
        raise PhotoError(
            "standard input is empty (0 bytes), expected a photo: see whether the command before the pipe failed, or "
            "name a file"
        )
    return read_picture(content, options, "standard input")


def varying_of(takes: Sequence[str], others: Mapping[str, Path]) -> str:
    """The photo of `takes` that is not among `others`.

    Raises:
        RequestError: one of them is not taken, or it is not exactly one that is left.
    """
    left = [name for name in takes if name not in others]
    if unknown := set(others) - set(takes):
        raise RequestError(f"the model takes {' and '.join(takes)}, not {', '.join(sorted(unknown))}: leave that out")
    if len(left) != 1:
        flags = " or ".join(f"--{name} FILE" for name in takes)
        raise RequestError(
            f"the model takes {' and '.join(takes)}, of which all but one stay the same in a batch: give {flags}"
        )
    return left[0]


def _send(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output could not be written ({error.strerror}): write to a file") from error
