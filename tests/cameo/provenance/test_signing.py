"""C2PA: results are signed whole or not at all, and `cameo verify` tells what holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import cameo
from cameo.commands import main
from cameo.errors import PhotoError, SigningError
from cameo.images import encode_image
from cameo.images.xmp import Origin, xmp_packet
from cameo.provenance import signing
from cameo.provenance.reading import Seal, findings
from cameo.provenance.record import Provenance
from cameo.provenance.signing import Signer
from cameo.testing import fake_bundle, image_session
from cameo.workers.calls import WorkOptions
from tests.support.certificates import key_of, write_chain, write_key
from tests.support.served import photo_server

pytest.importorskip("c2pa")
EDITED = "Edited using Generative AI (compositeWithTrainedAlgorithmicMedia)"


GUIDE = Path(__file__).parents[3] / "docs/provenance.md"


@dataclass(frozen=True)
class Desk:
    """A folder with a photo, a bundle, a key and its certificate."""

    folder: Path
    bundle: Path
    key: Path
    chain: Path

    def run(self, out: str, *options: str) -> int:
        photo = str(self.folder / "photo.png")
        return main(["run", str(self.bundle), photo, "-o", str(self.folder / out), *options])

    def signed(self, out: str) -> Path:
        assert self.run(out, "--c2pa", str(self.key), str(self.chain)) == 0
        return self.folder / out


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    key = key_of()
    networks = {"gpen-inpainting-64": image_session(lambda image: 255 - image)}
    with fake_bundle(tmp_path / "bundle", "gpen-face", networks) as bundle:
        yield Desk(tmp_path, bundle, write_key(tmp_path / "key", key), write_chain(tmp_path / "chain", key))


@pytest.mark.parametrize("out", ["out.png", "out.jpg", "out.webp"])
def test_a_signed_picture_is_verified(desk: Desk, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = desk.signed(out)
    capsys.readouterr()
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    network = cameo.load(desk.bundle).bundle.network("gpen-inpainting-64")
    hashes = f"network {network.onnx.sha256}, engine {network.engines[0].file.sha256} (sha256)"
    assert said.splitlines() == [
        str(path),
        f"  digital source type: {EDITED}",
        f"  tool: Cameo {cameo.__version__}",
        "  model: fake-gpen-face",
        f"  gpen-inpainting-64: fake-bundle fp32, {hashes}",
        "  C2PA: intact, the picture is as it was signed; "
        "who signed, A. Painter of Studio, is not known to a trust list",
    ]


@pytest.mark.parametrize("out", ["out.png", "out.jpg", "out.webp"])
def test_a_changed_picture_is_found_out(desk: Desk, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = desk.signed(out)
    content = bytearray(path.read_bytes())
    place = content.index(b"compositeWith", content.index(b"<?xpacket"))
    content[place : place + 18] = b"compositeSynthetic"
    if out.endswith(".png"):
        start = content.index(b"iTXt")
        end = start + 4 + int.from_bytes(content[start - 4 : start], "big")
        content[end : end + 4] = zlib.crc32(content[start:end]).to_bytes(4, "big")
    path.write_bytes(content)
    assert main(["verify", str(path)]) == 1
    assert "C2PA: tampered, the picture or its manifest was changed after A. Painter of Studio signed (" in (
        capsys.readouterr().out
    )


def test_pixels_that_changed_are_found_out(desk: Desk) -> None:
    path = desk.signed("out.jpg")
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    assert main(["verify", str(path)]) == 1


def test_an_unsigned_picture_has_its_xmp(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("out.png", "--no-metadata") == 0
    capsys.readouterr()
    assert main(["verify", str(desk.folder / "out.png")]) == 0
    said = capsys.readouterr().out
    assert EDITED in said
    assert said.endswith("C2PA: none\n")


def test_a_photo_that_says_nothing_is_not_verified(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(desk.folder / "photo.png")]) == 1
    assert "digital source type: not said" in capsys.readouterr().out
    assert main(["verify", str(desk.folder / "no.png")]) == 1
    assert "no.png does not exist, expected a photo" in capsys.readouterr().err


def test_without_the_extra_the_seal_is_not_checked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = desk.signed("out.png")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert main(["verify", str(path)]) == 1, "it may be tampered with"
    assert (
        "C2PA: there is a manifest, which was not checked: that needs the extra provenance" in capsys.readouterr().out
    )
    assert desk.run("new.png", "--c2pa", str(desk.key), str(desk.chain)) == 1
    assert "error: C2PA needs the extra provenance, which is not installed" in capsys.readouterr().err
    assert not (desk.folder / "new.png").exists()


@pytest.mark.parametrize("kind", ["P-384", "P-521", "Ed25519", "RSA"])
def test_keys_of_every_kind_sign(kind: str, tmp_path: Path) -> None:
    key = key_of(kind)
    Signer(write_key(tmp_path / "key", key), write_chain(tmp_path / "chain", key))


def test_what_cannot_sign_is_one_sentence(desk: Desk, tmp_path: Path) -> None:
    other, k1, key = key_of(), key_of("secp256k1"), key_of()
    locked = write_key(tmp_path / "locked", key, b"secret")
    old = write_chain(tmp_path / "old", key, (-40, -10))
    root_only = tmp_path / "root"
    root_only.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    cases = {
        "the key .*/other does not belong to the certificate .*/chain: name its own": (
            write_key(tmp_path / "other", other),
            desk.chain,
        ),
        "the key .*/locked has a passphrase, expected one without": (locked, desk.chain),
        "/chain is not a private key in PEM, expected one: name the key, then": (desk.chain, desk.key),
        "/root holds no certificate in PEM, expected one": (desk.key, root_only),
        "the key .*/none cannot be read": (tmp_path / "none", desk.chain),
        "the certificate .*/none cannot be read": (desk.key, tmp_path / "none"),
        "the certificate .*/old is valid from .* to .*, not now": (write_key(tmp_path / "key2", key), old),
        "/k1 is of a kind that C2PA does not know": (
            write_key(tmp_path / "k1", k1),
            write_chain(tmp_path / "k1chain", k1),
        ),
    }
    for said, files in cases.items():
        with pytest.raises(SigningError, match=said) as raised:
            Signer(*files)
        assert "PRIVATE KEY" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_key_that_cannot_sign_leaves_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("out.png", "--c2pa", str(desk.chain), str(desk.key)) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (desk.folder / "out.png").exists()


def test_an_answer_is_signed(desk: Desk, tmp_path: Path) -> None:
    work = WorkOptions(signing=(str(desk.key), str(desk.chain)))
    with photo_server(desk.bundle, work=work) as server:
        answer = TestClient(server.app).post("/run", content=(desk.folder / "photo.png").read_bytes())
    (tmp_path / "answer.png").write_bytes(answer.content)
    assert b"c2pa" in answer.content
    assert main(["verify", str(tmp_path / "answer.png")]) == 0


def test_a_picture_without_a_change_is_signed_without_a_claim(
    tmp_path: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_bundle(tmp_path / "b", "gpen", {"gpen-bfr-64": image_session(lambda image: image)}) as bundle:
        made = cameo.load(bundle).run(desk.folder / "photo.png")
    cameo.save(made, tmp_path / "same.png", signer=Signer(desk.key, desk.chain))
    content = (tmp_path / "same.png").read_bytes()
    assert b"digitalsourcetype" not in content
    assert b"gpen-bfr-64" not in content
    assert main(["verify", str(tmp_path / "same.png")]) == 1, "nothing is said of how it came about"
    assert "C2PA: intact" in capsys.readouterr().out


def test_xmp_that_contradicts_an_intact_seal_does_not_hold(desk: Desk, tmp_path: Path) -> None:
    packet = xmp_packet(Origin("trainedAlgorithmicMedia"))
    content = encode_image(np.zeros((8, 8, 3), np.uint8), ".png", xmp=packet)
    made = Provenance("compositeWithTrainedAlgorithmicMedia", "model")
    (tmp_path / "two.png").write_bytes(Signer(desk.key, desk.chain).signed(content, ".png", made))
    found = findings(tmp_path / "two.png")
    assert (found.seal, found.holds) == (Seal.INTACT, False)
    said = "XMP says Created using Generative AI (trainedAlgorithmicMedia), the manifest"
    assert f"{said} {EDITED}" in str(found)


@pytest.mark.parametrize("data", [{"networks": 7}, {"networks": None}, {"networks": [7]}, {"model": [7]}, [1], "text"])
def test_what_others_say_of_a_model_is_no_traceback(
    data: object, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"assertions": [{"label": signing.MODEL_ASSERTION, "data": data}]}
    signer = Signer(desk.key, desk.chain)
    monkeypatch.setattr(signing, "manifest", lambda provenance: theirs)
    content = encode_image(np.zeros((8, 8, 3), np.uint8), ".png")
    (tmp_path / "theirs.png").write_bytes(signer.signed(content, ".png", None))
    assert findings(tmp_path / "theirs.png").seal is Seal.INTACT


def test_damaged_files_are_findings_or_one_sentence(desk: Desk, tmp_path: Path) -> None:
    whole, rng = desk.signed("out.webp").read_bytes(), np.random.default_rng(0)
    seals = set()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(12, len(whole), rng.choice([1, 3, 20])):
            damaged[place] ^= 1 + int(rng.integers(255))
        (tmp_path / "damaged").write_bytes(damaged)
        with suppress(PhotoError):
            found = findings(tmp_path / "damaged")
            assert str(found).count("\n") >= 4
            seals.add(found.seal)
    assert {Seal.TAMPERED, Seal.INVALID} <= seals


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_the_guides_pair_signs(desk: Desk) -> None:
    recipe = re.search(r"```\n(openssl .*?)```", GUIDE.read_text(), re.DOTALL)
    assert recipe
    subprocess.run(["sh", "-e", "-c", recipe[1]], cwd=desk.folder, check=True, capture_output=True)
    pair = (str(desk.folder / "key.pem"), str(desk.folder / "cert.pem"))
    assert desk.run("signed.png", "--c2pa", *pair) == 0
    assert findings(desk.folder / "signed.png").seal is Seal.INTACT
