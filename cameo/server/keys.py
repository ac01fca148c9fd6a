"""API keys: who may ask, by a secret that is sent with each request (docs/decisions/190).

The file has a key on each line, or a name and a key, which logs and jobs then say; "#" begins a comment:

    # python -c "import secrets; print(secrets.token_urlsafe(32))"
    shop  Zk3yOq8Vd5oZ2v4XnF1mJ7sT0aLwHcRb
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers

from cameo.errors import RequestError

_SHORTEST: Final = 16
_NAME, _KEY = re.compile(r"[\w.-]{1,64}", re.ASCII), re.compile(r"[!-~]+")
_HOW: Final = 'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class ApiKeys:
    """The keys that are let in: only their hashes are kept, by the names of who has them."""

    digests: Mapping[str, bytes]

    @classmethod
    def of_file(cls, path: Path) -> ApiKeys:
        """The keys of a file.

        Raises:
            RequestError: it cannot be read, has no key, one that is too short, or one twice.
        """
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"the API keys {path} cannot be read ({error}), expected a key on each line") from None
        found: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if words:
                name, digest = _named(words, f"line {number} of {path}")
                if name in found or digest in found.values():
                    raise RequestError(f"line {number} of {path} has a name or a key once more: leave one out")
                found[name] = digest
        if not found:
            raise RequestError(f"{path} has no API key, expected one on each line: {_HOW}")
        return cls(found)

    def owner(self, headers: Headers) -> str | None:
        """The name of the key in `Authorization: Bearer` or `X-API-Key`; None where none of them is let in.

        It takes as long for a key that is nearly right as for any other.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key", token.strip() if scheme.lower() == "bearer" else "")
        digest = _digest(given)
        owners = [name for name, known in self.digests.items() if hmac.compare_digest(known, digest)]
        return owners[0] if owners else None


def key_for_curl(needed: bool) -> str:
    """How curl is told to send a key, in examples."""
    return "-H 'Authorization: Bearer KEY' " if needed else ""


def _named(words: list[str], where: str) -> tuple[str, bytes]:
    """The name and the hash of a line's key; without a name it goes by the beginning of its hash."""
    key, name = words[-1], words[0] if len(words) == 2 else ""
    if len(words) > 2 or not _KEY.fullmatch(key) or (name and not _NAME.fullmatch(name)):
        raise RequestError(
            f"{where} is no API key, expected one of ASCII characters, or a name of letters, digits, '.', '_' and '-', "
            f"a space and a key: {_HOW}"
        )
    if len(key) < _SHORTEST:
        raise RequestError(f"{where} has a key of {len(key)} characters, expected at least {_SHORTEST}: {_HOW}")
    digest = _digest(key)
    return name or f"key-{digest.hex()[:8]}", digest


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
