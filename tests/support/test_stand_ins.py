"""The stand-ins written here are the graphs that the original code ran, apart from notes on placement and types."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import frozen_graphs, stand_ins

pytest.importorskip("tensorflow")


def nodes(path: Path) -> dict[str, Any]:
    graph = frozen_graphs.read(path)
    for node in graph.node:
        node.attr.pop("_class", None)
        node.ClearField("experimental_type")
    return {node.name: node for node in graph.node}


@pytest.mark.parametrize("name", [*stand_ins.GENERATORS, *stand_ins.COMPANIONS])
def test_stand_ins_are_those_of_the_expected_values(name: str, shared_models: Path, tmp_path: Path) -> None:
    write = stand_ins.write_generator if name in stand_ins.GENERATORS else stand_ins.write_companion
    assert nodes(write(name, tmp_path)) == nodes(shared_models / "dctnet" / f"{name}.pb")
