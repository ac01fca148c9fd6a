"""Jobs over HTTP: what is accepted, what is refused, and what comes back."""

from __future__ import annotations

import csv
import io
import json
import random
import shlex
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cameo.errors import OutputError
from cameo.jobs.job import JobOptions
from cameo.jobs.store import Store
from cameo.memory.amounts import MIB
from cameo.server.exchange import Exchanges
from cameo.server.jobs import Jobs, without_jobs
from cameo.server.keys import ApiKeys
from cameo.server.limits import ServeOptions
from cameo.server.metrics import Metrics
from cameo.server.offers import Offer
from cameo.server.refusals import HANDLERS, Door
from cameo.testing import fake_bundle, image_session
from cameo.workers.calls import Served, State
from tests.cameo.jobs.fake import BEGUN, FakeCrew, packed, write
from tests.support.described import unlike
from tests.support.served import SLOW, Model, bundle_of, hang_up, photo_server, png, serving, wait_for

Open = Callable[..., TestClient]
FUSION = ("fusion-generator", "curricularface", "face-recon-3d")


@pytest.fixture
def crew() -> FakeCrew:
    return FakeCrew()


@pytest.fixture
def opened(tmp_path: Path, crew: FakeCrew) -> Iterator[Open]:
    """Opens servers of two models, whose jobs are in one folder, one server after the other."""
    running: list[Jobs] = []
    nothing = image_session(lambda image: image)

    def open_one(keys: ApiKeys | None = None, **options: Any) -> TestClient:
        close()
        limits = JobOptions(tmp_path / "jobs", **{"spare_mib": 0, **options})
        metrics = Metrics(lambda: State(0, 0.0, ()), lambda: 0)
        front = SimpleNamespace(offers=offers, crew=crew, metrics=metrics, options=ServeOptions(keys=keys, stall_s=0.3))
        running.append(Jobs(front, limits))  # type: ignore[arg-type]
        starlette = Starlette(routes=running[0].routes(), exception_handlers=HANDLERS)
        return TestClient(Exchanges(Door(starlette, None, keys), lambda exchange: None))

    def close() -> None:
        while running:
            running.pop().close()

    with (
        fake_bundle(tmp_path / "gpen", "gpen", {"gpen-bfr-64": nothing}) as one,
        fake_bundle(tmp_path / "fusion", "face-fusion", dict.fromkeys(FUSION, nothing)) as two,
    ):
        offers = {name: Offer.of(Served(name, where)) for name, where in (("gpen", one), ("fusion", two))}
        yield open_one
        crew.gate.set()
        close()


def form(*photos: tuple[str, bytes], field: str = "photos") -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, photo) for photo in photos]


def done(client: TestClient, answer: httpx2.Response) -> dict[str, Any]:
    """What a job says when it is done."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    where = answer.headers["location"]
    wait_for(lambda: client.get(where).json()["state"] == "done")
    told: dict[str, Any] = client.get(where).json()
    return told


def unpacked(answer: httpx2.Response) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_photos_of_a_form_and_of_zips_become_results(opened: Open) -> None:
    client = opened()
    packs = packed({"in/b.jpg": b"bad", "in/c.png": b"cde", "notes.txt": b"no"})
    sent = client.post("/v1/jobs", files=form(("a.jpg", b"abc"), ("all.zip", packs)), data={"format": "jpg"})
    assert sent.json()["left_out"] == ["notes.txt"]
    told = done(client, sent)
    assert (told["photos"], told["done"], told["failed"], told["faces"], told["waiting"]) == (3, 2, 1, 4, 0)
    assert told["failures"] == [{"photo": "in/b.jpg", "error": "photo is not an image that can be read"}]
    files = unpacked(client.get(told["results"]))
    rows = {row["photo"]: row for row in csv.DictReader(files.pop("results.csv").decode().splitlines())}
    assert files == {"a.jpg": b"cba", "in/c.jpg": b"edc"}
    assert [rows[name]["status"] for name in ("a.jpg", "in/b.jpg", "in/c.png")] == ["done", "failed", "done"]
    one = client.get(told["results"] + "/in/c.jpg")
    assert (one.content, one.headers["content-type"]) == (b"edc", "image/jpeg")
    assert client.get(told["results"] + "/results.csv").text.startswith("photo,status,result,faces")
    assert client.get(told["results"] + "/").status_code == 404  # that of a photo that failed has no name


def test_a_job_of_which_every_photo_failed_has_failed(opened: Open) -> None:
    client = opened()
    where = client.post("/v1/jobs", files=form(("a.jpg", b"bad"))).headers["location"]
    wait_for(lambda: client.get(where).json()["finished"] is not None)
    assert client.get(where).json()["state"] == "failed"


def test_options_are_of_every_photo_and_pictures_are_shared(opened: Open, crew: FakeCrew) -> None:
    client = opened()
    files = form(("a.jpg", b"abc"), ("b.jpg", b"bcd")) + form(("me.png", b"a face"), field="face")
    fields = {"model": "fusion", "consent": "yes", "format": "webp", "quality": "50"}
    crew.photo = "template"
    done(client, client.post("/v1/jobs", files=files, data=fields))
    assert sorted(call.files["template"] for call in crew.calls) == [b"abc", b"bcd"]
    for call in crew.calls:
        assert (call.model, call.files["face"], call.suffix, call.quality) == ("fusion", b"a face", ".webp", 50)
        assert call.consent


def test_results_are_there_as_they_come(opened: Open, crew: FakeCrew) -> None:
    client = opened(in_flight=1)
    crew.answers = 2
    sent = client.post("/v1/jobs", files=form(*((f"{n}.jpg", b"abc") for n in range(5)))).json()
    where = f"/v1/jobs/{sent['id']}"
    wait_for(lambda: client.get(where).json()["done"] == 2)
    told = client.get(where).json()
    assert (told["state"], told["waiting"], told["finished"]) == ("running", 3, None)
    assert set(unpacked(client.get(told["results"]))) == {"results.csv", "0.png", "1.png"}
    assert client.get(told["results"] + "/3.png").status_code == 404
    assert client.get("/v1/jobs").json()["jobs"][0]["done"] == 2


def test_a_job_goes_on_with_the_next_server(opened: Open, crew: FakeCrew) -> None:
    crew.gate.clear()
    sent = opened().post("/v1/jobs", files=form(("a.jpg", b"abc")))
    client = opened()
    crew.gate.set()
    assert done(client, sent)["done"] == 1


def test_a_job_is_deleted_with_all_that_it_has(opened: Open, tmp_path: Path) -> None:
    client = opened()
    told = done(client, client.post("/v1/jobs", files=form(("a.jpg", b"abc"))))
    where = f"/v1/jobs/{told['id']}"
    assert client.delete(where).status_code == 204
    assert client.delete(where).status_code == client.get(where).status_code == 404
    assert client.get(told["results"]).json()["error"].startswith("there is no such job, or no more")
    assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []


def test_a_job_is_seen_by_the_key_that_made_it(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one 0123456789abcdef\ntwo fedcba9876543210\n")
    client = opened(ApiKeys.of_file(tmp_path / "keys"))
    mine, theirs = ({"X-API-Key": key} for key in ("0123456789abcdef", "fedcba9876543210"))
    sent = client.post("/v1/jobs", files=form(("a.jpg", b"abc")), headers=mine)
    where = sent.headers["location"]
    for path in (where, where + "/results", where + "/results/a.png"):
        assert client.get(path, headers=theirs).status_code == 404
        assert client.get(path).status_code == 401
    assert client.delete(where, headers=theirs).status_code == 404
    assert client.get("/v1/jobs", headers=theirs).json() == {"jobs": []}
    assert len(client.get("/v1/jobs", headers=mine).json()["jobs"]) == 1


@pytest.mark.parametrize(
    ("photos", "fields", "status", "said"),
    [
        ([], {"alpha": "0.5"}, 400, "no photos came, expected files or a zip of them in the field photos"),
        ([("a.jpg", b"x")], {"model": "dctnet"}, 400, "no model 'dctnet' is served here, expected one of gpen, fusion"),
        ([("a.jpg", b"x")], {"alpha": "7"}, 400, "Option `alpha` of gpen is 7"),
        ([("a.jpg", b"x")], {"size": "7"}, 400, "has no option `size`"),
        ([("a.jpg", b"x")], {"format": "bmp"}, 400, "format is 'bmp', expected one of png, jpeg, webp"),
        (
            [("a.jpg", b"x")],
            {"model": "fusion"},
            400,
            "fusion takes template and face: send the job's photos, all of one of these, in the field photos",
        ),
        ([("../a.jpg", b"x")], {}, 400, "the name '../a.jpg' is no photo's below a folder"),
        ([("a.jpg", b"x"), ("a.jpg", b"x")], {}, 400, "'a.jpg' is there 2 times, expected each name once"),
        ([("a.jpg", b"x"), ("a.png", b"x"), ("a.jpg.png", b"x")], {}, 400, "'a.jpg.png' is there 2 times"),
        ([("z.zip", packed({"/a.jpg": b"x"}))], {}, 400, "the name '/a.jpg' is no photo's below a folder"),
        ([("z.zip", packed({"a.jpg": b"x"})[:40])], {}, 400, "'z.zip' is no zip that can be read"),
        ([("z.zip", packed({"a.jpg": bytes(3 * MIB)}))], {}, 413, "'a.jpg' in 'z.zip' has 3 MiB, expected at most 1"),
        ([("a.jpg", bytes(3 * MIB))], {}, 413, "'a.jpg' has 3 MiB, expected at most 1: shrink it"),
        ([(f"{n}.jpg", b"x") for n in range(9)], {}, 400, "9 photos came, expected at most 8: send several jobs"),
        ([(f"{n}.jpg", b"x") for n in range(201)], {}, 400, "too many files, expected at most 200: send a zip of them"),
        ([("a.zip", b"torn")], {}, 400, "'a.zip' does not begin as a zip does: pack it again"),
        ([("a.jpg", b"x")], {"photos": "b.jpg"}, 400, "photos came as text, expected files: send them, as curl -F"),
        ([("a.jpg", bytes(9 * MIB))], {}, 413, "9 MiB come, expected at most 5: send several jobs"),
    ],
)
def test_what_cannot_be_a_job_is_refused_and_leaves_nothing(
    opened: Open, tmp_path: Path, photos: Any, fields: Mapping[str, str], status: int, said: str
) -> None:
    client = opened(max_photos=8, max_photo_mib=1, max_mib=5)
    answer = client.post("/v1/jobs", files=form(*photos) or form(("", b""), field="nothing")[:0], data=fields)
    if not photos:
        boundary = b'--x\r\nContent-Disposition: form-data; name="alpha"\r\n\r\n0.5\r\n--x--\r\n'
        answer = client.post("/v1/jobs", content=boundary, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []
    assert client.get("/v1/jobs").json() == {"jobs": []}


def test_consent_is_wanted_with_each_job(opened: Open) -> None:
    files = form(("a.jpg", b"abc")) + form(("me.png", b"a face"), field="face")
    answer = opened().post("/v1/jobs", files=files, data={"model": "fusion"})
    assert answer.status_code == 400
    assert "consent" in answer.json()["error"]


def test_what_is_no_form_is_told_how(opened: Open) -> None:
    answer = opened().post("/v1/jobs", content=b"PK", headers={"Content-Type": "application/zip"})
    assert answer.status_code == 415
    assert "curl -F photos=@photos.zip http://testserver/v1/jobs" in answer.json()["error"]


def test_a_form_without_a_length_is_bounded_as_it_comes(opened: Open, tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
        for _ in range(40):
            yield bytes(2**18)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = opened(max_mib=5).post("/v1/jobs", content=pieces(), headers=headers)
    assert (answer.status_code, "is larger than 5 MiB" in answer.json()["error"]) == (413, True)
    assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []


def test_who_stalls_drips_or_hangs_up_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    with serving(stall_s=0.3, jobs=JobOptions(folder, spare_mib=0)) as server:
        stalled, dripping, gone = (server.connect(BEGUN) for _ in range(3))
        wait_for(lambda: len(list(folder.glob("*/sent/1"))) == 3)
        gone.close()
        for _ in range(4):
            time.sleep(0.1)
            with suppress(ConnectionError):
                dripping.sendall(b"a byte")
        for connection in (stalled, dripping):
            with connection.makefile("rb") as answer:  # its head and its body may come apart
                said = b"the photos stopped coming, or came too slowly: send them again"
                assert any(said in line for line in answer)
        wait_for(lambda: not list(folder.glob("*/sent")))
        assert server.ask("GET", "/v1/jobs")[1] == {"jobs": []}
    hang_up()


def test_random_damage_to_a_form_is_never_a_bug(opened: Open, tmp_path: Path) -> None:
    zips = packed({"a.jpg": b"abc", "b.jpg": b"bcd"})
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: image/png\r\n\r\n%s\r\n'
    whole = part % (b"format", b"", b"webp") + part % (b"photos", b'; filename="p.zip"', zips) + b"--x--\r\n"
    client, luck, statuses = opened(max_jobs=1000), random.Random(0), set[int]()
    for _ in range(300):
        broken = bytearray(whole[: luck.randint(0, len(whole)) if luck.random() < 0.2 else len(whole)])
        for _ in range(luck.randint(0, 6)):
            at = luck.randrange(len(broken) + 1)
            broken[at : at + luck.randint(0, 3)] = luck.randbytes(luck.randint(0, 3))
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        statuses.add(client.post("/v1/jobs", content=bytes(broken), headers=headers).status_code)
    assert {202, 400} <= statuses <= {202, 400, 413}
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert {path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()} == {job["id"] for job in jobs}


def test_as_many_jobs_are_taken_as_may_wait(opened: Open, crew: FakeCrew) -> None:
    crew.gate.clear()
    client = opened(max_jobs=2)
    for _ in range(2):
        assert client.post("/v1/jobs", files=form(("a.jpg", b"abc"))).status_code == 202
    answer = client.post("/v1/jobs", files=form(("a.jpg", b"abc")))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "2 jobs are not done yet, as many as are taken" in answer.json()["error"]


def test_a_disk_without_room_is_said(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened(spare_mib=2**40)
    answer = client.post("/v1/jobs", files=form(("a.jpg", b"abc")))
    assert (answer.status_code, "MiB left, expected" in answer.json()["error"]) == (507, True)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    client = opened()
    with monkeypatch.context() as patch:
        patch.setattr("cameo.server.job_uploads.os.fsync", full)
        answer = client.post("/v1/jobs", files=form(("a.jpg", b"abc")))
    assert (answer.status_code, "(No space left on device)" in answer.json()["error"]) == (507, True)
    assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []
    assert done(client, client.post("/v1/jobs", files=form(("a.jpg", b"abc"))))["done"] == 1


def test_a_job_that_cannot_be_removed_now_stays(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened()
    where = client.post("/v1/jobs", files=form(("a.jpg", b"abc"))).headers["location"]

    def full(store: Store, job: str) -> None:
        raise OutputError("jobs.sqlite cannot be used (database or disk is full): free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", full)
        answer = client.delete(where)
    assert (answer.status_code, "disk is full" in answer.json()["error"]) == (507, True)
    assert client.delete(where).status_code == 204


def test_why_photos_wait_is_said(opened: Open, crew: FakeCrew) -> None:
    crew.gate.clear()
    sent = opened().post("/v1/jobs", files=form(("a.jpg", b"abc"))).json()
    assert (sent["eta_s"], sent["why_waiting"]) == (None, "")


def test_without_a_folder_no_jobs_are_kept() -> None:
    starlette = Starlette(routes=without_jobs(), exception_handlers=HANDLERS)
    client = TestClient(Exchanges(Door(starlette, None), lambda exchange: None))
    for path in ("/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/results"):
        answer = client.get(path)
        assert (answer.status_code, "start it with --jobs FOLDER" in answer.json()["error"]) == (404, True)
    assert client.post("/v1/jobs", files=form(("a.jpg", b"abc"))).status_code == 404


def test_who_asks_for_one_photo_waits_little_longer_beside_a_job(tmp_path: Path) -> None:
    """The device takes half a second for each of the job's photos, of which two are in work: a second at most."""
    options = ServeOptions(jobs=JobOptions(tmp_path, spare_mib=0))
    with bundle_of(Model()) as bundle, photo_server(bundle, options=options) as server:
        client = TestClient(server.app)
        slow = form(*((f"{n}.png", png(SLOW)) for n in range(9)))
        where = client.post("/v1/jobs", files=slow).headers["location"]
        took = []
        for _ in range(4):
            time.sleep(0.1)
            started = time.monotonic()
            assert client.post("/run", content=png(9)).status_code == 200
            took.append(time.monotonic() - started)
        assert client.get(where).json()["state"] == "running"
        assert max(took) < 2 * 0.5 + 0.4
        wait_for(lambda: client.get(where).json()["state"] == "done")
        assert client.get(where).json()["done"] == 9


def test_a_job_waits_while_the_queue_is_full(tmp_path: Path) -> None:
    options = ServeOptions(queue=1, jobs=JobOptions(tmp_path, spare_mib=0))
    model = Model()
    model.gate.clear()
    with bundle_of(model) as bundle, photo_server(bundle, options=options) as server:
        client = TestClient(server.app)
        alone = threading.Thread(target=client.post, args=("/run",), kwargs={"content": png(9)})
        alone.start()
        wait_for(lambda: server.front.crew.state().inside == 1)
        where = client.post("/v1/jobs", files=form(("a.png", png(1)), ("b.png", png(2)))).headers["location"]
        wait_for(lambda: client.get(where).json()["why_waiting"].startswith("1 photo is inside already"))
        model.gate.set()
        wait_for(lambda: client.get(where).json()["state"] == "done")
        assert client.get(where).json()["done"] == 2
        alone.join()


def of_jobs(document: Any) -> dict[str, dict[str, Any]]:
    return {path: methods for path, methods in document["paths"].items() if "/jobs" in path}


def test_every_address_is_described(tmp_path: Path) -> None:
    options = ServeOptions(jobs=JobOptions(tmp_path, spare_mib=0))
    with bundle_of(Model()) as bundle, photo_server(bundle, options=options) as server:
        found = of_jobs(TestClient(server.app).get("/openapi.json").json())
        asked = {(route.path, method) for route in server.routes for method in route.methods or () if method != "HEAD"}
    described = {(path, method.upper()) for path, methods in found.items() for method in methods}
    assert described == {(path.replace(":path", ""), method) for path, method in asked if "/jobs" in path}


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("key", ["", "0123456789abcdef"])
def test_its_examples_run(tmp_path: Path, key: str) -> None:
    write(tmp_path / "photos.zip", packed({"a.png": png(1)}))
    keys = ApiKeys.of_file(write(tmp_path / "keys", key.encode())) if key else None
    with serving(jobs=JobOptions(tmp_path / "jobs", spare_mib=0), keys=keys) as server:
        _, document, _ = server.ask("GET", "/openapi.json", X_API_Key=key)
        operations = [one for methods in of_jobs(document).values() for one in methods.items()]
        job = ""
        for _, operation in sorted(operations, key=lambda one: ("post", "get", "delete").index(one[0])):
            (sample,) = operation["x-codeSamples"]
            command = shlex.split(sample["source"].replace("Bearer KEY", f"Bearer {key}").replace("JOB", job))
            done = subprocess.run([*command, "-sS"], cwd=tmp_path, capture_output=True, check=False)
            assert done.returncode == 0, f"{sample['source']}: {done.stderr.decode()}"
            answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            if described := answers[0].get("content", {}).get("application/json"):
                assert not unlike(json.loads(done.stdout), described["schema"])
            job = job or json.loads(done.stdout)["id"]
