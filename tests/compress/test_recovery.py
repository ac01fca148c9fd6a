"""Recovery: photos that will do, a student that learns, and a run that was killed."""

from pathlib import Path

import numpy as np
import pytest

from cameo.errors import OutputError, PhotoError, StageError
from cameo.images import photos_in, write_image
from compress.recovery.photos import Crops, held_out_views, read_photos

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from compress.recovery import training  # noqa: E402
from compress.recovery.feeds import Feeds, in_torch  # noqa: E402
from compress.recovery.losses import Lesson, held_out_psnr, image_loss  # noqa: E402
from compress.recovery.training import Plan, train  # noqa: E402


def photo(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def folder_of(folder: Path, **images: np.ndarray) -> list[Path]:
    for name, image in images.items():
        write_image(folder / f"{name}.png", image)
    return photos_in(folder)


# --- photos


def test_every_fifth_photo_is_held_out(tmp_path: Path) -> None:
    images = {f"p{i}": photo(seed=i) for i in range(7)}
    found = read_photos(folder_of(tmp_path, **images), side=32)
    assert [len(found.training), len(found.held_out)] == [6, 1]
    assert np.array_equal(found.held_out[0], images["p4"])
    assert not found.skipped


def test_photos_that_teach_nothing_are_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("not a photo, not even by its name")
    black = np.zeros((40, 60, 3), np.uint8)
    files = folder_of(tmp_path, black=black, tiny=photo(8, 60), good=photo(), other=photo(seed=1))
    found = read_photos(files, side=32)
    assert [len(found.training), len(found.held_out)] == [1, 1]
    assert sorted(found.skipped) == ["black.png", "broken.jpg", "tiny.png"]
    assert "one flat colour" in found.skipped["black.png"]
    assert "60x8, expected at least 16 pixels" in found.skipped["tiny.png"]


def test_too_few_photos_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="0 photos to learn from, expected at least 2"):
        read_photos([], side=32)
    files = folder_of(tmp_path, good=photo(), black=np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(PhotoError, match=r"1 photos .* 1 of 2 left out \(black.png is one flat colour"):
        read_photos(files, side=32)
    with pytest.raises(PhotoError, match="there is no folder"):
        photos_in(tmp_path / "nowhere")


@pytest.mark.parametrize("whole", [False, True])
def test_batches_depend_on_the_step_alone(whole: bool) -> None:
    crops = Crops([photo(), photo(50, 30, 1)], side=32, batch_size=3, whole=whole)
    batch = crops.batch(5)
    assert batch.shape == (3, 32, 32, 3)
    assert batch.dtype == np.uint8
    assert np.array_equal(batch, crops.batch(5))
    assert not np.array_equal(batch, crops.batch(6))


def test_held_out_views_fit_the_network() -> None:
    assert held_out_views([photo(41, 62)], side=32, multiple=4, whole=False)[0].shape == (40, 60, 3)
    assert held_out_views([photo(41, 62)], side=32, multiple=1, whole=True)[0].shape == (32, 32, 3)


# --- the loop


class Brightness(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return levels * self.factor


def run(network: nn.Module, feeds: Feeds) -> torch.Tensor:
    return network(feeds["image"])


def pictures(images: np.ndarray) -> Feeds:
    """What a network that takes one photo is fed."""
    return in_torch([{"image": images}])


def learn(folder: Path, plan: Plan, stop_at: int | None = None) -> tuple[Brightness, training.Progressed]:
    """Teach a factor of 0.5 to a student that starts at 0.8; `stop_at` raises in that step."""
    teacher, student = Brightness(0.5), Brightness(0.8)
    crops, photos = Crops([photo()], side=16, batch_size=1), [pictures(photo(seed=1)[None])]
    lesson = Lesson(teacher, student, run, {})

    def loss(step: int) -> torch.Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        return lesson.loss(pictures(crops.batch(step)), step / plan.steps)

    return student, train(student, loss, held_out_psnr(teacher, student, run, photos), plan, folder)


PLAN = Plan(steps=60, learning_rate=0.05, warm_up=1, evaluate_every=10)


def test_a_student_learns_its_teacher(tmp_path: Path) -> None:
    student, done = learn(tmp_path, PLAN)
    assert student.factor.item() == pytest.approx(0.5, abs=0.01)
    assert done.started_at < 20 < 35 < done.best


def test_a_killed_run_ends_as_it_would_have_ended(tmp_path: Path) -> None:
    whole, expected = learn(tmp_path / "whole", PLAN)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "killed", PLAN, stop_at=37)
    checkpoint = torch.load(tmp_path / "killed" / training.CHECKPOINT, weights_only=True)
    assert checkpoint["progress"]["step"] == 30
    resumed, done = learn(tmp_path / "killed", PLAN, stop_at=29)  # fails if it starts anew
    assert done == expected
    assert resumed.factor.item() == whole.factor.item()


def test_a_checkpoint_of_another_run_is_not_used(tmp_path: Path) -> None:
    learn(tmp_path, PLAN)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, Plan(**{**vars(PLAN), "identity": "another"}), stop_at=0)


def test_a_damaged_checkpoint_is_told_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, expected = learn(tmp_path, PLAN)
    path = tmp_path / training.CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level("WARNING"):
        _, done = learn(tmp_path, PLAN)
    assert "checkpoint.pt cannot be read" in caplog.text
    assert done == expected


def test_it_stops_when_fidelity_no_longer_grows(tmp_path: Path) -> None:
    student, fidelities = Brightness(0.8), iter([30, 31, 32, 31, 31.5, 31.9, 40])
    plan = Plan(steps=1000, warm_up=1, evaluate_every=1, patience=3)
    factors = []

    def loss(step: int) -> torch.Tensor:
        factors.append(student.factor.item())
        return student.factor * 2

    done = train(student, loss, lambda: next(fidelities), plan, tmp_path)
    assert (done.step, done.best, done.best_step) == (5, 32, 2)
    assert student.factor.item() == factors[2]  # the weights of the best, not the last


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    student = Brightness(0.8)
    with pytest.raises(StageError, match="its loss is nan, expected a number"):
        train(student, lambda step: student.factor * float("nan"), lambda: 30.0, PLAN, tmp_path)


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write .*checkpoint.pt"):
        learn(tmp_path / "file", PLAN)


# --- the loss


def test_the_same_image_costs_nothing_and_an_edge_costs_more_than_a_shade() -> None:
    wanted = torch.full((1, 3, 16, 16), 100.0)
    shade, edges = wanted + 10, wanted.clone()
    edges[..., ::2] += 20
    assert image_loss(wanted, wanted) < 0.01
    assert image_loss(wanted, wanted) < image_loss(shade, wanted) < image_loss(edges, wanted)


def test_features_are_compared_on_the_channels_that_stayed() -> None:
    teacher, student = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        student[0].weight.copy_(teacher[0].weight[[1, 3]])
        student[0].bias.copy_(teacher[0].bias[[1, 3]])

    def grey(network: nn.Module, feeds: Feeds) -> torch.Tensor:
        return run(network, feeds).mean(1, keepdim=True) * 0

    feeds = pictures(photo()[None])
    right = Lesson(teacher, student, grey, {"0": torch.tensor([1, 3])}).loss(feeds, 0)
    wrong = Lesson(teacher, student, grey, {"0": torch.tensor([0, 2])}).loss(feeds, 0)
    late = Lesson(teacher, student, grey, {"0": torch.tensor([0, 2])}).loss(feeds, 1)
    assert right == late < wrong
