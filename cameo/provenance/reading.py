"""What a file says about how it came about: its XMP, and its C2PA manifest, checked."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cameo.errors import SigningError
from cameo.images import origin_of
from cameo.images.source_types import in_words, term_of
from cameo.images.xmp import Origin, shown
from cameo.provenance.record import UsedNetwork
from cameo.provenance.signing import MODEL_ASSERTION, library, offline

_STORE: Final = bytes.fromhex("63327061 0011 0010 8000 00aa00389b71")
"""The type of the JUMBF box that is a C2PA manifest store, in whatever format of file (C2PA 2.2, section 11.1.4.2)."""
_NOTHING: Final = Origin()


class Seal(Enum):
    """What is known of a file's C2PA manifest."""

    NONE = "none"
    UNCHECKED = "there is a manifest, which was not checked: that needs the extra provenance (pip install c2pa-python)"
    INTACT = "intact, the picture is as it was signed; who signed, {signer}, is not known to a trust list"
    TRUSTED = "intact, the picture is as it was signed; {signer} signed, who is on a trust list"
    TAMPERED = "tampered, the picture or its manifest was changed after {signer} signed ({why})"
    INVALID = "not valid ({why})"


@dataclass(frozen=True)
class Findings:
    """What the file at `path` says: by XMP, and by its manifest, whose claims count only if the seal holds."""

    path: Path
    xmp: Origin
    seal: Seal = Seal.NONE
    signed: Origin = _NOTHING
    networks: tuple[UsedNetwork, ...] = ()
    signer: str = ""
    why: str = ""

    @property
    def agree(self) -> bool:
        """Whether XMP and manifest name one digital source type, where both name one."""
        return not (self.xmp.source_type and self.signed.source_type) or (
            self.xmp.source_type == self.signed.source_type
        )

    @property
    def holds(self) -> bool:
        """Whether the file says how it came about, and all of that was checked and is right."""
        said = bool(self.xmp.source_type or self.signed.source_type)
        return said and self.agree and self.seal in (Seal.NONE, Seal.INTACT, Seal.TRUSTED)

    def __str__(self) -> str:
        return f"{self.path}\n" + "\n".join(f"  {line}" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        source_type = self.xmp.source_type or self.signed.source_type
        yield f"digital source type: {in_words(source_type) if source_type else 'not said'}"
        yield f"tool: {self.xmp.tool or self.signed.tool or 'not said'}"
        yield f"model: {self.xmp.model or self.signed.model or 'not said'}"
        for used in self.networks:
            yield f"{used.name}: {used.engine}, network {used.network_sha256}, engine {used.engine_sha256} (sha256)"
        yield f"C2PA: {self.seal.value.format(signer=self.signer, why=self.why)}"
        if not self.agree:
            yield f"XMP says {in_words(self.xmp.source_type)}, the manifest {in_words(self.signed.source_type)}"


def findings(path: Path) -> Findings:
    """What the file of a picture says about how it came about.

    Raises:
        PhotoError: it is missing, or no picture.
    """
    xmp, content = origin_of(path)
    if _STORE not in content:
        return Findings(path, xmp)
    try:
        c2pa = library()
    except SigningError:
        return Findings(path, xmp, Seal.UNCHECKED)
    try:
        with c2pa.Reader(None, io.BytesIO(content), context=offline()) as reader:
            manifest, state = reader.get_active_manifest() or {}, reader.get_validation_state()
            results = (reader.get_validation_results() or {}).get("activeManifest", {})
    except (c2pa.C2paError, KeyError, ValueError) as error:  # the others where the store has no active manifest
        return Findings(path, xmp, Seal.INVALID, why=shown(error))
    failures = [one for one in results.get("failure", []) if one["code"] != "signingCredential.untrusted"]
    why = "; ".join(shown(one.get("explanation") or one["code"]) for one in failures)
    model = _assertions(manifest, MODEL_ASSERTION)
    signed = Origin(_source_type(manifest), _tool(manifest), shown(model.get("model", "")))
    return Findings(path, xmp, _seal(state, failures), signed, tuple(_networks(model)), _signer(manifest), why)


def _seal(state: str | None, failures: list[Mapping[str, str]]) -> Seal:
    if any("mismatch" in failure["code"] for failure in failures):
        return Seal.TAMPERED
    return {"Trusted": Seal.TRUSTED, "Valid": Seal.INTACT}.get(state or "", Seal.INVALID)


def _assertions(manifest: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    found = [one.get("data") for one in manifest.get("assertions", []) if str(one.get("label")).startswith(label)]
    return found[0] if found and isinstance(found[0], dict) else {}


def _source_type(manifest: Mapping[str, Any]) -> str:
    """That of the newest action which names one."""
    actions = _assertions(manifest, "c2pa.actions").get("actions", [])
    terms = [term_of(str(action.get("digitalSourceType", ""))) for action in actions if isinstance(action, dict)]
    return next(filter(None, reversed(terms)), "")


def _tool(manifest: Mapping[str, Any]) -> str:
    info: Mapping[str, Any] = next(iter(manifest.get("claim_generator_info") or []), {})
    return shown(f"{info.get('name', '')} {info.get('version', '')}")


def _signer(manifest: Mapping[str, Any]) -> str:
    info = manifest.get("signature_info") or {}
    names = [shown(info[key]) for key in ("common_name", "issuer") if info.get(key)]
    return " of ".join(names) or "somebody without a name"


def _networks(model: Mapping[str, Any]) -> Iterator[UsedNetwork]:
    networks = model.get("networks")
    for used in networks if isinstance(networks, list) else ():  # anybody may have written it
        if isinstance(used, dict):
            yield UsedNetwork(*(shown(used.get(field.name, "?")) for field in fields(UsedNetwork)))
