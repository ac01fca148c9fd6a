"""Signs files by C2PA, with a key and a certificate of the user's (docs/decisions/153). Nothing is fetched or sent."""

from __future__ import annotations

import io
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

from cameo import __version__
from cameo.errors import SigningError
from cameo.images import FORMATS
from cameo.images.source_types import VOCABULARY
from cameo.provenance.record import Provenance

MODEL_ASSERTION: Final = "cameo.model"
"""The label of our own assertion: the model, its networks and engines, and the sha256 of their files."""
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_SETTINGS: Final = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


def library() -> Any:
    """The module c2pa.

    Raises:
        SigningError: it is not installed.
    """
    try:
        import c2pa
    except ModuleNotFoundError:
        raise SigningError(
            "C2PA needs the extra provenance, which is not installed: pip install c2pa-python, or leave out --c2pa"
        ) from None
    return c2pa


@cache
def offline() -> Any:
    """A context of the library in which it fetches nothing and makes no thumbnails."""
    c2pa = library()
    return c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS))


class Signer:
    """Signs with the private key of a PEM file, without a passphrase, whose certificate is the first of another.

    The other holds the chain up to the root. Both are tried out here, so that what is wrong shows before the work.

    Raises:
        SigningError: the extra is missing, or the two cannot sign.
    """

    def __init__(self, key: Path, certificate: Path) -> None:
        self._c2pa = library()
        self._chain = _read(certificate, "certificate")
        self._algorithm, self._key = _key_for(key, certificate, self._chain)
        trial = io.BytesIO()
        Image.new("RGB", (1, 1)).save(trial, "PNG")
        self.signed(trial.getvalue(), ".png", None)

    def signed(self, content: bytes, suffix: str, provenance: Provenance | None) -> bytes:
        """The file with a manifest of what is true of it.

        Raises:
            SigningError: the library refuses.
        """
        made = io.BytesIO()
        mime_type = f"image/{FORMATS[suffix.lower()].lower()}"
        try:
            info = self._c2pa.C2paSignerInfo(self._algorithm, self._chain, self._key, None)
            with self._c2pa.Builder.from_json(manifest(provenance), context=offline()) as builder:
                builder.set_intent(self._c2pa.C2paBuilderIntent.EDIT)
                builder.sign(self._c2pa.Signer.from_info(info), mime_type, io.BytesIO(content), made)
        except self._c2pa.C2paError as error:
            why = " ".join(str(error).split())
            raise SigningError(f"C2PA cannot sign with this key and certificate ({why}): use others") from None
        return made.getvalue()


def manifest(provenance: Provenance | None) -> dict[str, Any]:
    """The manifest as the library takes it: a photo was opened, which it adds, and edited, unless it stayed as it was.

    Of the photo it holds nothing.
    """
    agent = {"name": "Cameo", "version": __version__}
    assertions: list[dict[str, Any]] = []
    if provenance is not None and provenance.model:
        term = VOCABULARY + provenance.source_type
        action = {"action": "c2pa.edited", "digitalSourceType": term, "softwareAgent": agent}
        assertions.append({"label": "c2pa.actions.v2", "data": {"actions": [action]}})
        networks = list(map(asdict, provenance.networks))
        assertions.append({"label": MODEL_ASSERTION, "data": {"model": provenance.model, "networks": networks}})
    photo = {"title": "photo", "relationship": "parentOf"}
    return {"claim_generator_info": [agent], "ingredients": [photo], "assertions": assertions}


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningError(f"the {what} {path} cannot be read ({error.strerror}): check the path") from None


def _key_for(key: Path, certificate: Path, chain: bytes) -> tuple[bytes, bytes]:
    """The signature algorithm and the key, PKCS 8 in PEM, once it is known to fit the certificate."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    content = _read(key, "key")
    try:
        private = load_pem_private_key(content, None)
    except TypeError:
        raise SigningError(f"the key {key} has a passphrase, expected one without: decrypt a copy of it") from None
    except (ValueError, UnsupportedAlgorithm):  # which may quote the key
        raise SigningError(
            f"{key} is not a private key in PEM, expected one: name the key, then the certificate"
        ) from None
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise SigningError(
            f"{certificate} holds no certificate in PEM, expected one: name the key, then the certificate"
        ) from None
    if leaf.public_key() != private.public_key():
        raise SigningError(f"the key {key} does not belong to the certificate {certificate}: name its own")
    now, first, last = datetime.now(UTC), leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not first <= now <= last:
        valid = f"is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        raise SigningError(f"the certificate {certificate} {valid}, not now: use one that is")
    algorithm = _algorithm(private, key)
    return algorithm.encode(), private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _algorithm(private: Any, key: Path) -> str:
    """The name that C2PA has for signatures by a key (C2PA 2.2, section 13.2)."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    raise SigningError(f"the key {key} is of a kind that C2PA does not know: use one of P-256, Ed25519 or RSA")
