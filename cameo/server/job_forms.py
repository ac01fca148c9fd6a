"""A form becomes a job: which photos, of which model, with which options; all is refused that could not be run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cameo.bulk.photos import Naming, result_names
from cameo.errors import PhotoTooLarge, RequestError
from cameo.jobs.archive import check_name, is_zip, members_of
from cameo.jobs.job import Job, JobOptions, Photo
from cameo.memory.amounts import MIB
from cameo.server.job_uploads import File
from cameo.server.offers import Offer

MODEL, PHOTOS = "model", "photos"
"""The field that says which model, the first one where it is left out; and the one of every photo, or of a zip."""


def job_of(
    name: str,
    owner: str,
    offers: Mapping[str, Offer],
    files: Sequence[File],
    fields: Mapping[str, str],
    limits: JobOptions,
) -> tuple[Job, list[Photo], list[str]]:
    """The job, by its id, that a form's files and fields mean, its photos, and what else was in the zips.

    Raises:
        RequestError: the model is not served, takes another photo, or an option, a zip or a name cannot be used.
        PhotoTooLarge: one is larger than the limit.
    """
    offer = _offer(offers, fields.get(MODEL, ""))
    if PHOTOS in fields:  # a path, perhaps
        raise RequestError(f"{PHOTOS} came as text, expected files: send them, as curl -F {PHOTOS}=@photos.zip does")
    _check_sizes(files, limits)
    shared = {file.field: file for file in files if file.field != PHOTOS}
    varying = _varying(offer, shared)
    content = {field: file.path.read_bytes() for field, file in shared.items()}
    options = {field: text for field, text in fields.items() if field != MODEL}
    call = replace(offer.call({**content, varying: b""}, options), files={})
    photos, left_out = _photos([file for file in files if file.field == PHOTOS], call.suffix, limits)
    pictures = {field: file.path.name for field, file in shared.items()}
    return Job(name, owner, call, varying, pictures, time.time()), photos, left_out


def _offer(offers: Mapping[str, Offer], name: str) -> Offer:
    if name and name not in offers:
        raise RequestError(f"no model {name!r:.80} is served here, expected one of {', '.join(offers)}")
    return offers[name or next(iter(offers))]


def _check_sizes(files: Sequence[File], limits: JobOptions) -> None:
    for file in files:
        if file.size > limits.max_photo_mib * MIB and not (file.field == PHOTOS and is_zip(file.path)):
            size = f"has {file.size / MIB:.0f} MiB, expected at most {limits.max_photo_mib}"
            raise PhotoTooLarge(f"{file.name!r:.80} {size}: shrink it, or save it as JPEG")
    fields = Counter(file.field for file in files if file.field != PHOTOS)
    if twice := [field for field, times in fields.items() if times > 1]:
        raise RequestError(f"{twice[0]!r:.80} came more than once, expected photos of the job in the field {PHOTOS}")


def _varying(offer: Offer, shared: Mapping[str, File]) -> str:
    """The photo that the model takes anew each time: the one that is not shared."""
    left = [photo for photo in offer.takes if photo not in shared]
    if len(left) != 1:
        if len(offer.takes) == 1:
            raise RequestError(f"{offer.name} wants the photos of the job in the field {PHOTOS}: send them so")
        raise RequestError(
            f"{offer.name} takes {' and '.join(offer.takes)}: send the job's photos, all of one of these, in the field "
            f"{PHOTOS}, and one file for all of them in the field of each other"
        )
    return left[0]


def _photos(files: Sequence[File], suffix: str, limits: JobOptions) -> tuple[list[Photo], list[str]]:
    if not files:
        raise RequestError(f"no photos came, expected files or a zip of them in the field {PHOTOS}: send some")
    found, left_out = _found(files, limits)
    if len(found) > limits.max_photos:
        raise RequestError(f"{len(found)} photos came, expected at most {limits.max_photos}: send several jobs")
    names = [name for name, _, _ in found]
    results = result_names(names, Naming(suffix.removeprefix(".")))
    for what in (names, results):
        name, times = Counter(what).most_common(1)[0]
        if times > 1:
            raise RequestError(f"{name!r:.80} is there {times} times, expected each name once: rename one")
    photos = [
        Photo(number, name, file.path.name, in_zip, result)
        for number, ((name, file, in_zip), result) in enumerate(zip(found, results, strict=True))
    ]
    return photos, left_out


def _found(files: Sequence[File], limits: JobOptions) -> tuple[list[tuple[str, File, bool]], list[str]]:
    """Every photo: its name, the file that it is or is in, and whether that is a zip; and what else zips hold."""
    found, left_out = list[tuple[str, File, bool]](), list[str]()
    for file in files:
        if is_zip(file.path):
            photos, others = members_of(file.path, repr(file.name)[:80], limits)
            found += [(name, file, True) for name in photos]
            left_out += others
        elif file.name.lower().endswith(".zip"):
            raise RequestError(f"{file.name!r:.80} does not begin as a zip does: pack it again")
        else:
            check_name(file.name)
            found.append((file.name, file, False))
    return found, left_out
