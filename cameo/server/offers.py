"""What the front knows of each model that it serves, from `bundle.json` and the flow: no engine is opened for it.

What is asked of a model comes as fields of a form (docs/decisions/187).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cameo.bundle import Bundle
from cameo.declaring import NO, PHOTO, YES, Declaration, Declared, declarations, from_texts, named, offered
from cameo.errors import RequestError
from cameo.flows import check_networks, consent_of, flow_module, meaning_of, no_consent
from cameo.loading import told_apart
from cameo.modes import MODES
from cameo.workers.calls import Call, Served

CONSENT, MODE, FORMAT, QUALITY, TRUNCATED = "consent", "mode", "format", "quality", "allow_truncated"
OWN_FIELDS: Final = (CONSENT, MODE, FORMAT, QUALITY, TRUNCATED)
"""Fields of every model's form; `consent` says that those who are shown agree, in each call (docs/decisions/154)."""
FORMATS: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_ALSO: Final = {"jpg": "jpeg"}
SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
MEDIA_TYPES: Final = {suffix: kind for kind, suffix in SUFFIXES.items()}


@dataclass(frozen=True, eq=False)
class Offer:
    """One model: what it takes, and what can be asked of it, `per_call` of what its bundle can do."""

    served: Served
    flow: str
    takes: tuple[str, ...]
    meanings: Mapping[str, str]
    """What each of the photos is, "" where its name says it."""
    per_call: tuple[Declaration, ...]
    usual: Declared
    consent: str
    modes: tuple[str, ...]
    check: Callable[[Mapping[str, Any]], None]
    """Raises RequestError where options of a call are unknown, out of range, or need a network that is not there."""

    @classmethod
    def of(cls, served: Served) -> Offer:
        """The model of a bundle, with the options that it is served with.

        Raises:
            BundleError: no bundle there, one that was changed, or of a flow that this version does not have.
            RequestError: an option is unknown or out of range.
        """
        bundle = Bundle(served.bundle)
        module = flow_module(bundle.manifest.flow)
        known = (*declarations(module.Options), *declarations(module.Request))
        options, usual = told_apart(module, from_texts(known, served.options), bundle.networks)
        check_networks(module, bundle.networks, options, usual)
        entries = [entry for network in bundle.networks.values() for entry in network.engines]
        modes = tuple(mode for mode in MODES if any(entry.mode == mode for entry in entries))

        def check(given: Mapping[str, Any]) -> None:
            check_networks(module, bundle.networks, options, usual.changed(given, bundle.networks))

        return cls(
            served,
            bundle.manifest.flow,
            module.TAKES,
            {photo: meaning_of(module, photo) for photo in module.TAKES},
            offered(module.Request, bundle.networks),
            usual,
            consent_of(module),
            modes,
            check,
        )

    @property
    def name(self) -> str:
        return self.served.name

    @property
    def pictures(self) -> tuple[str, ...]:
        """The options of a call that are pictures, also of those that its bundle lacks networks for."""
        return tuple(one.name for one in declarations(type(self.usual)) if one.kind is PHOTO)

    @property
    def most_files(self) -> int:
        """How many files a call can have."""
        return len(self.takes) + len(self.pictures)

    @property
    def example(self) -> str:
        """How curl is told to send what the model needs: one photo as it is, several as a form."""
        if len(self.takes) == 1 and not self.consent:
            return f"--data-binary @{self.takes[0]}.jpg"
        fields = [f"{name}=@{name}.jpg" for name in self.takes] + ([f"{CONSENT}=yes"] if self.consent else [])
        return " ".join(f"-F {field}" for field in fields)

    def call(self, files: Mapping[str, bytes], fields: Mapping[str, str], accept: str = "") -> Call:
        """The call that a form's files and fields mean; a body that is one file has the name "".

        `accept` is the header, which says what the answer shall be where the field `format` does not.

        Raises:
            RequestError: a photo or consent is missing, or a field is unknown, out of range or no picture.
        """
        named = self._named(files, fields)
        texts = {name: text for name, text in fields.items() if name not in OWN_FIELDS}
        pictures = {name: content for name, content in named.items() if name in self.pictures}
        consent = fields.get(CONSENT, "").lower() in YES
        if self.consent and not consent:
            raise RequestError(no_consent(self.consent, f"a form with {CONSENT}=yes"))
        self._check_names(texts)
        self.check({**from_texts(declarations(type(self.usual)), texts), **pictures})
        suffix = SUFFIXES[_media_type(fields.get(FORMAT, ""), accept)]
        quality = _quality(fields.get(QUALITY, ""), suffix)
        mode, truncated = self._mode(fields.get(MODE, "")), _truncated(fields.get(TRUNCATED, "no"))
        return Call(self.name, named, texts, mode, consent, suffix, quality, truncated)

    def _named(self, files: Mapping[str, bytes], fields: Mapping[str, str]) -> Mapping[str, bytes]:
        """The files by the names that the model knows; a single photo may have any."""
        takes = self.takes
        photos = {name: content for name, content in files.items() if name not in self.pictures}
        pictures = {name: content for name, content in files.items() if name in self.pictures}
        if len(takes) == 1 and len(photos) == 1:
            photos = {takes[0]: next(iter(photos.values()))}
        if as_text := [name for name in (*takes, *self.pictures) if name in fields]:  # a path, perhaps
            raise RequestError(f"{', '.join(as_text)} came as text, expected a picture: send its file")
        if set(photos) != set(takes):
            got = ", ".join(f"{name:.80}" or "one photo" for name in photos) or "no photo"
            missing = [name for name in takes if name not in photos]
            if photos and set(photos) < set(takes):
                raise RequestError(f"{got} came without {' and '.join(missing)}: send a file of that name too")
            raise RequestError(f"{got} came, expected {' and '.join(takes)}: send a form with a file for each")
        return {**{name: photos[name] for name in takes}, **pictures}

    def _check_names(self, texts: Mapping[str, str]) -> None:
        """Refuse fields that nobody has; those of options that the bundle cannot follow say so by themselves."""
        if unknown := sorted(texts.keys() - {one.name for one in declarations(type(self.usual))}):
            own = (name for name in OWN_FIELDS if name != CONSENT or self.consent)
            can = sorted({*own, *(one.name for one in self.per_call)})
            raise RequestError(
                f"{self.usual.OF} has no option {named(*unknown)} for a call, expected one of {named(*can)}."
            )

    def _mode(self, mode: str) -> str:
        if mode and mode not in self.modes:
            kind = "no mode" if mode not in MODES else "no mode of this bundle"
            raise RequestError(f"{mode!r:.40} is {kind} of {self.name}, expected one of {', '.join(self.modes)}")
        return mode


def _media_type(format: str, accept: str) -> str:
    """The type of a format, else the first of an Accept header that can be written, else PNG.

    Raises:
        RequestError: there is no such format.
    """
    if format:
        name = _ALSO.get(format.lower(), format.lower())
        if name not in FORMATS:
            raise RequestError(f"format is {format!r:.40}, expected one of {', '.join(FORMATS)}")
        return FORMATS[name]
    wanted = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((kind for kind in wanted if kind in SUFFIXES), FORMATS["png"])


def _quality(text: str, suffix: str) -> int | None:
    if not text:
        return None
    if suffix == ".png":
        raise RequestError(f"quality is {text!r:.40}, and PNG has none: ask for format=jpeg or format=webp with it")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise RequestError(f"quality is {text!r:.40}, expected a whole number from 1 to 100")
    return int(text)


def _truncated(text: str) -> bool:
    if text.lower() not in (*YES, *NO):
        raise RequestError(f"{TRUNCATED} is {text!r:.40}, expected yes or no")
    return text.lower() in YES
