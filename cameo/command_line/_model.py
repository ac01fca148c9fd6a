"""The model that a command line asks for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.command_line._flags import OPTION

if TYPE_CHECKING:
    from cameo.flows import FlowModule
    from cameo.loading import Loaded
    from cameo.provenance.signing import Signer


def flow_of(bundle: Path) -> FlowModule:
    """The module of a bundle's flow."""
    from cameo.bundle import Bundle
    from cameo.flows import flow_module

    return flow_module(Bundle(bundle).manifest.flow)


def given(parsed: argparse.Namespace) -> dict[str, str]:
    """The options of models that were given, as text by name."""
    texts = {key.removeprefix(OPTION): text for key, text in vars(parsed).items() if key.startswith(OPTION)}
    return {name: text for name, text in texts.items() if text is not None}


def chosen(parsed: argparse.Namespace, module: FlowModule) -> dict[str, Any]:
    """The options of the model that were given, by name; a picture is its path, what is unknown stays text."""
    from cameo.declaring import declarations, from_texts

    return from_texts((*declarations(module.Options), *declarations(module.Request)), given(parsed))


def pictures(parsed: argparse.Namespace, module: FlowModule) -> dict[str, Path]:
    """Those of the options that were given which are pictures, by name."""
    return {name: value for name, value in chosen(parsed, module).items() if isinstance(value, Path)}


def load(parsed: argparse.Namespace, consent: bool = False, allow_truncated: bool = False) -> Loaded:
    """The bundle, opened with the flags that were given, its threads on one heap."""
    from cameo.loading import load
    from cameo.memory.heap import share_one_heap

    share_one_heap()
    return load(
        parsed.bundle,
        mode=parsed.mode,
        engine=parsed.engine,
        precision=parsed.precision,
        device=parsed.device,
        threads=parsed.threads,
        memory=parsed.memory,
        allow_truncated=allow_truncated,
        consent=consent,
        low_memory=parsed.low_memory,
        **chosen(parsed, flow_of(parsed.bundle)),
    )


def signer_of(parsed: argparse.Namespace) -> Signer | None:
    """What signs the pictures, where --c2pa asks for it.

    Raises:
        SigningError: it cannot sign.
    """
    if parsed.c2pa is None:
        return None
    from cameo.provenance.signing import Signer

    return Signer(*parsed.c2pa)
