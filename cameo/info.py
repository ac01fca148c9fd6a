"""What a bundle holds: its flow and modes, networks and engines with what runs here, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cameo.bundle import Bundle, EngineEntry, NetworkEntry
from cameo.declaring import PHOTO, Declaration, flagged, offered
from cameo.errors import EngineUnavailable
from cameo.flows import consent_of, flow_module
from cameo.modes import MODES
from cameo.opening import LoadOptions, choose_engine, memory_of_bundle, why_not


@dataclass(frozen=True)
class Info:
    """What there is to say about a bundle, as text (`str`) and for programs (`facts`)."""

    bundle: Bundle

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, made of what JSON is made of."""
        manifest, module = self.bundle.manifest, flow_module(self.bundle.manifest.flow)
        return {
            "folder": str(self.bundle.folder),
            "model": manifest.model,
            "flow": manifest.flow,
            "takes": list(module.TAKES),
            "consent": consent_of(module),
            "built_with": manifest.provenance.get("cameo", "?"),
            "modes": self._modes,
            "networks": [_network(network) for network in self.bundle.networks.values()],
            "memory": memory_of_bundle(self.bundle).splitlines(),
            "options": {
                when: [_option(declared) for declared in offered(options, self.bundle.networks)]
                for when, options in (("loading", module.Options), ("call", module.Request))
            },
        }

    def __str__(self) -> str:
        facts = self.facts
        head = (
            f"{facts['folder']}: model {facts['model']}, flow {facts['flow']}, which takes "
            f"{' and '.join(facts['takes'])}, built with cameo {facts['built_with']}"
        )
        consent = [f"consent: {facts['consent']}"] if facts["consent"] else []
        lines = [head, *consent, f"modes: {', '.join(facts['modes'])}", *_network_lines(facts), "", *facts["memory"]]
        for when, title in (("loading", "options of loading"), ("call", "options of a call")):
            known = facts["options"][when]
            lines += ["", f"{title}:{'' if known else ' none'}", *_option_lines(known)]
        return "\n".join(lines)

    @property
    def _modes(self) -> list[str]:
        found = {entry.mode for network in self.bundle.networks.values() for entry in network.engines}
        return [mode for mode in MODES if mode in found]


def _network(network: NetworkEntry) -> dict[str, Any]:
    try:
        here = choose_engine(network, LoadOptions()).label
    except EngineUnavailable:
        here = ""
    return {
        "name": network.name,
        "file": str(network.source.get("file", "?")),
        "sha256": str(network.source.get("sha256", "?")),
        "inputs": list(map(str, network.inputs)),
        "outputs": list(map(str, network.outputs)),
        "runs_on": here,
        "engines": list(map(_engine, network.engines)),
    }


def _engine(entry: EngineEntry) -> dict[str, Any]:
    return {
        "engine": entry.engine,
        "precision": entry.precision,
        "mode": entry.mode,
        "label": entry.label,
        "bytes": entry.file.bytes,
        "targets": list(entry.targets),
        "why_not_here": why_not(entry, LoadOptions()),
    }


def _option(declared: Declaration) -> dict[str, Any]:
    return {
        "name": declared.name,
        "flag": declared.flag,
        "help": declared.help,
        "expected": declared.expected,
        "default": None if declared.kind is PHOTO else declared.default,
    }


def _network_lines(facts: dict[str, Any]) -> Iterator[str]:
    for network in facts["networks"]:
        yield f"\n{network['name']}  from {network['file']} (sha256 {network['sha256']:.12}...)"
        for direction, specs in (("in ", network["inputs"]), ("out", network["outputs"])):
            yield from (f"  {direction} {spec}" for spec in specs)
        for engine in network["engines"]:
            targets = f"for {', '.join(engine['targets'])}; " if engine["targets"] else ""
            reason = engine["why_not_here"]
            here = f"cannot run here: {reason}" if reason else "runs here"
            chosen = ", and is the one that is taken" if engine["label"] == network["runs_on"] else ""
            yield f"  {engine['label']:31} {engine['bytes'] / 2**20:7.1f} MiB  {targets}{here}{chosen}"


def _option_lines(options: list[dict[str, Any]]) -> Iterator[str]:
    names = {option["name"] for option in options}
    for option in options:
        usual = f" (default: {option['default']})" if option["default"] not in (None, "", False) else ""
        yield f"  {option['flag']:20} {flagged(option['help'], names)}: {option['expected']}{usual}"
