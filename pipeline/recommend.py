"""Says of engines in precisions that must prove themselves whether they pay: measured here, else by planned memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import engines
import exporters
from cameo.backends import backend, runs
from cameo.bundle import Profile
from exporters.recipe import Recipe
from pipeline.store import Result, Store
from validate.speed import WORTH_IT, CompareSpeed

Build = Callable[[str, str], Result]
"""Builds an engine (by its name) from the graph of a precision."""


def with_recommendations(
    recipe: Recipe,
    built: Mapping[tuple[str, str], Result],
    rivals: Mapping[tuple[str, str], Result],
    build: Build,
    store: Store,
    say: Callable[[str], None],
) -> dict[tuple[str, str], Result]:
    """`built`, with a `comparison` among the facts of engines that run only if recommended: against what, and whether.

    `rivals` are the network's engines so far, by engine and precision of their graph. A rival that is missing is built
    from the FP32 graph; it does not get into the bundle.
    """
    found = dict(built)
    for (engine, graph), result in built.items():
        way = runs(engine, graph)
        if way is None or not way.if_recommended:
            continue
        if "cpu" in way.devices:
            rival = rivals.get((engine, "fp32")) or build(engine, "fp32")
            comparison = _measured(recipe, engine, graph, result, rival, store)
        else:
            against = "fp16" if (engine, "fp16") in rivals else "fp32"
            comparison = _planned(result, rivals.get((engine, against)) or build(engine, against), against)
        say(f"{recipe.network} on {engine}: {sentence(graph, comparison)}")
        found[engine, graph] = replace(result, facts={**result.facts, "comparison": comparison})
    return found


def _measured(
    recipe: Recipe, engine: str, precision: str, result: Result, rival: Result, store: Store
) -> dict[str, Any]:
    ways = [p for p in engines.engine(engine).PRECISIONS["fp32"] if backend(engine).why_unavailable(p) is None]
    batch, *size = recipe.ranges[0].opt[:3] if recipe.ranges else (1, *recipe.sizes.latency)
    feeding = (size[0], size[1]), batch, exporters.examples_of(recipe.network)
    stage = CompareSpeed(engine, precision, rival.artifact.path.resolve(), rival.artifact.sha256, ways[-1], *feeding)
    return dict(store.run(stage, result.artifact).facts)


def _planned(result: Result, rival: Result, against: str) -> dict[str, Any]:
    own, theirs = (_mib(one) for one in (result, rival))
    return {
        "against": against,
        "planned_mib": own,
        "rival_planned_mib": theirs,
        "recommended": own * WORTH_IT <= theirs,
    }


def _mib(result: Result) -> float:
    """The most memory that the engine plans for any target, in its first profile."""
    name = result.facts["profiles"][0]["name"]
    profiles = [Profile.of(profile) for profile in result.facts["profiles"] if profile["name"] == name]
    return round(max(profile.planned_mib or 0.0 for profile in profiles), 1)


def sentence(precision: str, comparison: Mapping[str, Any]) -> str:
    """What the comparison says."""
    against = comparison["against"]
    advice = f"use {precision if comparison['recommended'] else against}"
    if "speedup" in comparison:
        speedup = f"{comparison['speedup']:.2f} × as fast as {against} here"
        return f"{precision} is {speedup}, worth it from {WORTH_IT:g} on: {advice}"
    own, theirs = comparison["planned_mib"], comparison["rival_planned_mib"]
    return f"{precision} plans {own:.0f} MiB and {against} {theirs:.0f} MiB: {advice}"
