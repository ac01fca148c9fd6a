"""Doors offer options by which a bundle can do one thing or another: none of one value, none that lacks its network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cameo
import exporters
from cameo.bundle import Bundle
from cameo.declaring import Declaration, declarations
from cameo.errors import RequestError
from cameo.flows import flow_module, flow_names
from cameo.info import Info
from cameo.server.offers import CONSENT, OWN_FIELDS, Offer
from cameo.server.openapi import document
from cameo.server.page import page
from cameo.testing import fake_bundle, image_session
from cameo.workers.calls import Served
from tests.support.served import png

FUSION = ("fusion-generator", "curricularface", "face-recon-3d")
DCTNET = ("dctnet-background", "dctnet-head")
HIDDEN = [
    ("gpen", ("gpen-bfr-64",), {"sr", "tile"}),
    ("gpen", ("gpen-bfr-64", "realesrnet-x2"), set()),
    ("dctnet", DCTNET, {"sr", "tile"}),
    ("dctnet", (*DCTNET, "realesrnet-x4"), set()),
    ("face-fusion", FUSION, {"keep_occluders", "no_enhance"}),
    ("face-fusion", (*FUSION, "parsenet"), {"no_enhance"}),
    ("face-fusion", (*FUSION, "gpen-bfr-1024"), {"keep_occluders"}),
    ("gpen-face", ("gpen-colorization-64",), {"mask", "seed", "aligned"}),
    ("gpen-face", ("gpen-inpainting-64",), {"seed", "aligned"}),
    ("gpen-face", ("gpen-sr-32-64",), {"mask", "aligned"}),
]


def all_of(flow: str) -> tuple[Declaration, ...]:
    module = flow_module(flow)
    return (*declarations(module.Options), *declarations(module.Request))


@contextmanager
def bundle_of(folder: Path, flow: str, networks: tuple[str, ...]) -> Iterator[Path]:
    with fake_bundle(folder, flow, {name: image_session(lambda image: image) for name in networks}) as made:
        yield made


@pytest.mark.parametrize(("flow", "networks", "hidden"), HIDDEN)
def test_info_and_server_offer_what_the_bundle_can_do(
    tmp_path: Path, flow: str, networks: tuple[str, ...], hidden: set[str]
) -> None:
    with bundle_of(tmp_path / "bundle", flow, networks) as folder:
        info, offer = Info(Bundle(folder)), Offer.of(Served("model", folder))
    every = {one.name for one in all_of(flow)}
    per_call = {one.name for one in declarations(flow_module(flow).Request)}
    assert {option["name"] for options in info.facts["options"].values() for option in options} == every - hidden
    for one in all_of(flow):
        assert (f"\n  {one.flag} " in str(info)) == (one.name not in hidden)
    form = document([offer], "http://here", False)["paths"]["/v1/models/model"]["post"]["requestBody"]["content"]
    assert every & set(form["multipart/form-data"]["schema"]["properties"]) == per_call - hidden
    html = page([offer])
    assert {name for name in per_call if f'name="{name}"' in html} == per_call - hidden


@pytest.mark.parametrize(("flow", "networks", "hidden"), HIDDEN)
def test_who_asks_for_another_is_told_what_the_bundle_can_do(
    tmp_path: Path, flow: str, networks: tuple[str, ...], hidden: set[str]
) -> None:
    per_call = {one.name for one in declarations(flow_module(flow).Request)}
    with bundle_of(tmp_path / "bundle", flow, networks) as folder, cameo.load(folder) as model:
        offer = Offer.of(Served("model", folder))
        files = {name: png(9) for name in offer.takes}
        own = {name for name in OWN_FIELDS if name != CONSENT or offer.consent}
        by_form, by_keyword = lambda: offer.call(files, {"other": "1", CONSENT: "yes"}), lambda: model.request(other=1)
        for ask, more in ((by_form, own), (by_keyword, set[str]())):
            with pytest.raises(RequestError, match="has no option `other` for a call") as refused:
                ask()
            assert set(re.findall(r"`(\w+)`", str(refused.value))) == {"other"} | per_call - hidden | more


def test_what_is_not_offered_is_understood_all_the_same(tmp_path: Path) -> None:
    """So the flow says which network lacks, before the call is in line."""
    with bundle_of(tmp_path / "bundle", "dctnet", DCTNET) as folder:
        offer = Offer.of(Served("model", folder))
    assert offer.call({"photo": png(9)}, {"sr": "no"}).fields == {"sr": "no"}
    with pytest.raises(RequestError, match="no network realesrnet-x1, -x2 or -x4, expected one for the option `sr`"):
        offer.call({"photo": png(9)}, {"sr": "yes"})
    with pytest.raises(RequestError, match="Option `sr` of dctnet is 'much', expected yes or no"):
        offer.call({"photo": png(9)}, {"sr": "much"})


@pytest.mark.parametrize("flow", flow_names())
def test_what_an_option_needs_is_a_network(flow: str) -> None:
    for one in all_of(flow):
        assert any(name.startswith(one.needs) for name in exporters.network_names()), one.name
