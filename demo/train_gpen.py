"""Trains the demo weights of GPEN: a narrow generator learns to undo what poor_photo.py does.

    pip install torch opencv-python-headless scikit-image scikit-learn matplotlib
    export OMP_NUM_THREADS=1
    torchrun --nproc-per-node 2 -m demo.train_gpen --size 256 --out small.pth  # half an hour each
    torchrun --nproc-per-node 2 -m demo.train_gpen --weights small.pth  # on two CPU cores with bfloat16

It sees freely licensed photos, spoilt and cut out as the photo flow cuts out faces: a portrait, and anything else. The
network is `exporters/gpen/network.py` as it is, of the published family's structure, narrower. It starts as the
identity, so training has to find the differences only, and at half the size, where a view costs a quarter; grown to the
whole, it enlarges and sharpens what it restored. No adversary: it learns what is likely, not what looks real.
"""

import argparse
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.cascade import CascadeFinder
from cameo.faces.face import Matrix, Points
from cameo.faces.restoring import ZOOM
from demo import photos
from demo.gpen_start import architecture, grown, identity_generator, widened
from demo.held_out import scores
from demo.poor_photo import impoverish, random_poverty
from exporters.gpen.network import FullGenerator
from exporters.gpen.training_form import quickened

log = logging.getLogger(__name__)
Image = NDArray[np.uint8]
SIZE = 512
NETWORK = f"gpen-bfr-{SIZE}"
GRAIN = 0.02  # of a range of 2: 2.5 levels
WEIGHTS = Path(__file__).parent / "gpen" / f"GPEN-BFR-{SIZE}.pth"


@dataclass(frozen=True)
class Training:
    """How the network is trained."""

    size: int = SIZE
    minutes: float = 30
    face_share: float = 0.5  # part of the views that show the portrait's face as the flow aligns it
    learning_rate: float = 6e-3
    averaging: float = 0.99  # of the weights per step
    seed: int = 0
    start: Path | None = None  # weights to go on from, also narrower or of half the size; None: the identity

    @property
    def batch_size(self) -> int:
        """Views that each process takes in a step."""
        return SIZE**2 // self.size**2


def train(training: Training, path: Path) -> FullGenerator:
    """The trained generator with averaged weights; every 100 steps those so far are written to `path`.

    The learning rate falls with the time that is left, so that any machine ends well, however far it comes.
    """
    rank = _join_others()
    torch.manual_seed(training.seed)
    network = quickened(_start(training))
    model = network if rank is None else DistributedDataParallel(network)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(training.averaging))
    optimizer = torch.optim.Adam(model.parameters(), training.learning_rate, betas=(0.9, 0.99))
    batches = _batches(training, rank or 0)
    start, step, done = time.monotonic(), 0, 0.0
    losses: list[float] = []
    while done < 1:
        poor, good = next(batches)
        optimizer.param_groups[0]["lr"] = training.learning_rate * _learning_rate_factor(step, done)
        with torch.autocast("cpu", torch.bfloat16):
            attempt = model(poor)
        loss = restoration_loss(attempt, good)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=1.0)
        optimizer.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        step, done = step + 1, _same_for_all((time.monotonic() - start) / (60 * training.minutes))
        if not rank and (step % 100 == 0 or done >= 1):
            log.info(
                "step %d, loss %.4f, %.0f minutes left", step, np.mean(losses[-100:]), training.minutes * (1 - done)
            )
            save(averaged.module, path)
    return averaged.module.eval()


def _start(training: Training) -> FullGenerator:
    if training.start is None:
        return identity_generator(training.size)
    network = FullGenerator.from_state_dict(torch.load(training.start, weights_only=True))
    size = network.architecture.out_size
    if network.architecture != architecture(size):
        network = widened(network)
    return grown(network) if size < training.size else network


def restoration_loss(restored: Tensor, good: Tensor) -> Tensor:
    """The error of pixels and, to keep it sharp, of the differences between neighbours."""
    error = restored - good
    return _size(error) + (_size(error.diff(dim=2)) + _size(error.diff(dim=3)))


def _size(error: Tensor) -> Tensor:
    """Mean size of errors, the square of small ones: a photo's own grain, which nobody can restore, hardly counts."""
    return (error.square() + GRAIN**2).sqrt().mean() - GRAIN


def views(training: Training, rng: np.random.Generator) -> Iterator[tuple[Image, Image]]:
    """Pairs of a view of a spoilt photo and the same view of the good one, uint8 `(S, S, 3)` RGB, without end.

    Half show a face as the flow cuts it out, the others anything. What spoils a photo does so before the view is cut
    out, as it does for the flow.
    """
    everything = [photo.read() for photo in photos.TRAINING]
    faces = [(bgr, face.five_points) for bgr in everything for face in CascadeFinder()(bgr[..., ::-1])]
    while True:
        if rng.random() < training.face_share:
            bgr, points = faces[rng.integers(len(faces))]
            matrix = face_matrix(points, training.size, rng)
        else:
            bgr = everything[rng.integers(len(everything))]
            matrix = photos.view_matrix(bgr, training.size, SIZE / rng.uniform(0.9, 2.5), rng)
        good = photos.recolour(bgr, rng)[..., ::-1]
        poor = impoverish(good, random_poverty(rng), rng)
        mirror = rng.choice((-1, 1))
        yield (
            photos.shrunk_without_aliasing(poor, matrix, training.size)[:, ::mirror],
            photos.shrunk_without_aliasing(good, matrix, training.size)[:, ::mirror],
        )


def face_matrix(points: Points, size: int, rng: np.random.Generator) -> Matrix:
    """From the photo to the aligned face, at times turned, nearer, farther or aside, as face finders err."""
    aligned = similarity_in_crop_frame(points.astype(np.float32), square_template(size, ZOOM))
    middle = size / 2
    stray = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 8), rng.uniform(0.6, 1.4))
    stray[:, 2] += rng.normal(0, 0.05 * size, 2)
    matrix: Matrix = stray @ np.vstack([aligned, (0, 0, 1)])
    return matrix


def restored(network: FullGenerator, image: Image) -> Image:
    """The image restored and truncated to levels as the authors do, both uint8 `(S, S, 3)` RGB."""
    with torch.no_grad():
        levels = (network(_to_tensor(image[None])) * 127.5 + 127.5).clamp(0, 255)
    return np.asarray(levels[0].permute(1, 2, 0).numpy().astype(np.uint8))


def save(network: FullGenerator, path: Path) -> None:
    """Write the weights as GPEN's authors do: a plain state dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({key: value.detach().clone() for key, value in network.state_dict().items()}, part)
    part.replace(path)


def _join_others() -> int | None:
    """This process's number among those that torchrun started, None where it did not."""
    if not distributed.is_torchelastic_launched():
        return None
    distributed.init_process_group("gloo")
    return distributed.get_rank()


def _same_for_all(value: float) -> float:
    """The largest of the processes' values, so that all stop at the same step."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor(value)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return shared.item()


def _batches(training: Training, rank: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of poor and good views, float32 `(N, 3, S, S)` RGB in [-1, 1]."""
    pairs = views(training, np.random.default_rng((training.seed, rank)))
    while True:
        poor, good = zip(*islice(pairs, training.batch_size), strict=True)
        yield _to_tensor(np.stack(poor)), _to_tensor(np.stack(good))


def _to_tensor(images: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _learning_rate_factor(step: int, done: float, warm_up: int = 50) -> float:
    """From 0 to 1 in the first steps, then down to 0 as `done` goes to 1."""
    return min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * min(1, done)))


def main() -> None:
    """Trains the network and says what it does to a face that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file for the weights")
    parser.add_argument(
        "--weights",
        type=Path,
        help="weights to go on from, also narrower or of half the size, with other views than before: name a --seed",
    )
    parser.add_argument("--size", type=int, default=SIZE, help="side of the network's image, at most 512")
    parser.add_argument("--seed", type=int, default=Training.seed, help="of views, damage and first weights")
    parser.add_argument("--minutes", type=float, default=Training.minutes, help="how long to train")
    parser.add_argument("--learning-rate", type=float, default=Training.learning_rate, help="the highest, of Adam")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = Training(
        size=arguments.size,
        minutes=arguments.minutes,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        start=arguments.weights,
    )
    network = train(training, arguments.out)
    if distributed.is_initialized() and distributed.get_rank():
        return
    for name, score in scores(lambda image: restored(network, image), training.size).items():
        log.info(
            "%s: PSNR %.1f dB, restored %.1f; SSIM %.3f, restored %.3f",
            name,
            score.psnr_poor,
            score.psnr_restored,
            score.ssim_poor,
            score.ssim_restored,
        )
    log.info("wrote %s", arguments.out)


if __name__ == "__main__":
    main()
