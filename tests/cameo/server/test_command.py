"""What `cameo serve` makes of its arguments: models with names, options of each, and what is wrong said at once."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import cameo.server
from cameo.bundle import MANIFEST_NAME, Manifest, NetworkEntry, StoredFile
from cameo.commands import main
from cameo.flows.dctnet import BACKGROUND, HEAD
from cameo.server import ServeOptions
from cameo.workers.calls import Served, WorkOptions
from cameo.workers.crew import CrewOptions

GPEN = "gpen-bfr-512"
KEY = "a-key-for-the-tests-only"
Serve = Callable[..., tuple[list[Served], WorkOptions, ServeOptions]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With bundles without engines: two of GPEN that are called "gpen-bfr-512" both, and one of DCT-Net."""
    graph = StoredFile("networks/none.onnx", "onnx", "0" * 64, 1)
    for name, model, networks in (("a", GPEN, [GPEN]), ("b", GPEN, [GPEN]), ("c=d", "dctnet", [HEAD, BACKGROUND])):
        entries = {network: NetworkEntry(network, (), (), graph, {}, ()) for network in networks}
        (tmp_path / name).mkdir()
        manifest = Manifest(model, model.partition("-")[0], entries, {}, {})
        (tmp_path / name / MANIFEST_NAME).write_text(manifest.to_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def serve(folder: Path, cameo_log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`serve(arguments...)`: the models, and the options of workers and server, with which it would be started."""
    started: list[Any] = []

    def crew(served: Sequence[Served], work: WorkOptions, options: CrewOptions) -> None:
        started.append(work)

    def listen(served: Sequence[Served], open_crew: Callable[[], None], options: ServeOptions, *where: Any) -> None:
        open_crew()
        started.extend([served, options])

    monkeypatch.setattr(cameo.server, "child_crew", crew)
    monkeypatch.setattr(cameo.server, "serve", listen)

    def run(*arguments: str) -> tuple[list[Served], WorkOptions, ServeOptions]:
        assert main(["serve", *arguments]) == 0
        work, served, options = started
        return served, work, options

    return run


def test_models_go_by_the_names_of_their_bundles_or_by_those_given(serve: Serve) -> None:
    served, _, _ = serve("a", "old=b", "c=d")
    assert [(one.name, str(one.bundle)) for one in served] == [("gpen-bfr-512", "a"), ("old", "b"), ("dctnet", "c=d")]


def test_each_model_gets_the_options_that_it_has(serve: Serve) -> None:
    served, work, _ = serve("a", "c=d", "--alpha", "0.5", "--size", "512", "--threads", "1", "--memory", "2GiB")
    assert [dict(one.options) for one in served] == [{"alpha": "0.5"}, {"size": "512"}]
    assert [dict(one.loading) for one in served] == [{"threads": 1}, {"threads": 1}]
    assert (work.memory, work.max_megapixels) == ("2GiB", 50)


def test_limits_reach_the_server_and_its_workers(serve: Serve, folder: Path) -> None:
    (folder / "keys").write_text(KEY)
    flags = "--queue 3 --timeout 7 --max-upload 2 --max-megapixels 9 --allow-host a.example --api-keys keys".split()
    _, work, options = serve("a", *flags)
    assert work.max_megapixels == 9
    assert (options.queue, options.timeout_s, options.max_upload_mib, options.grace_s) == (3, 7, 2, 7)
    assert options.allow_hosts == ("a.example",)
    assert options.keys is not None
    assert options.crew.queue == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a", "b"], 2, "a and b are both called gpen-bfr-512, expected names of their own: call one otherwise, as in"),
        (["x=a", "x=b"], 2, "a and b are both called x"),
        (["a", "--size", "512"], 2, "gpen-bfr-512 has no option --size: leave it out, or serve its model"),
        (["a", "nowhere"], 1, "nowhere is no bundle"),
        (["x=nowhere"], 1, "nowhere is no bundle"),
        (["a", "--allow-host", "a b"], 2, "--allow-host is 'a b', expected a name without port, such as portraits"),
        (["a", "--allow-host", "http://a.example"], 2, "--allow-host is 'http://a.example', expected a name without"),
        (["x="], 2, "x= names a model and no folder, expected x=DIR"),
        (
            ["x/y=a"],
            2,
            "'x/y' cannot be a model's name, expected up to 64 letters, digits, '.', '_' and '-', such as f",
        ),
        (["a", "--keep-jobs", "3"], 2, "--keep-jobs says how long jobs are kept, and none are: add --jobs FOLDER"),
        (["a", "--memory", "4"], 2, "The amount of memory is '4' (bytes), expected one such as 4GiB"),
        (["a", "--api-keys", "nowhere"], 2, "the API keys nowhere cannot be read"),
        (["a", "--c2pa", "nowhere", "nowhere"], 1, "the certificate nowhere cannot be read"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    serve: Serve, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert main(["serve", *arguments]) == code
    assert capsys.readouterr().err.startswith(f"error: {said}")


NO_ENLARGER = "no network realesrnet-x1, -x2 or -x4, expected one for the option --sr"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--alpha", "7"], "Option --alpha of gpen is 7.0"),
        (["a", "--tile", "1"], "Option --tile of gpen is 1"),
        (["a", "--sr"], NO_ENLARGER),
        (["c=d", "--sr"], NO_ENLARGER),
    ],
)
def test_an_option_out_of_range_or_reach_is_refused_before_a_worker_starts(
    folder: Path, cameo_log: logging.Logger, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["serve", *arguments, "--port", "0"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("port", ["80x", "-1", "65536"])
def test_what_is_no_port_is_said(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "a", f"--port={port}"])
    assert f"'{port}' is not a port, expected a whole number from 0 to 65535" in capsys.readouterr().err


def test_a_failed_start_is_a_line_of_json_where_the_log_is(
    folder: Path, cameo_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "a", "--port", "0", "--alpha", "7", "--log", "json"]) == 2
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"]) == ("error", "cameo")
    assert line["message"].startswith("Option --alpha of gpen is 7.0")


def test_a_port_that_is_taken_is_said(
    folder: Path, cameo_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "a", "--port", str(port)]) == 1
    assert f"error: cannot listen on 127.0.0.1:{port} (" in capsys.readouterr().err
