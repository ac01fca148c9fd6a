"""Trains the demo weights of GPEN: a narrow generator learns to undo what poor_photo.py does.

    pip install torch opencv-python-headless scikit-image scikit-learn matplotlib
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m demo.train_gpen  # half an hour on two CPU cores with bfloat16

It sees freely licensed photos: a portrait, cut out as the photo flow cuts out faces, and crops of anything else. The
network is `exporters/networks/gpen.py` as it is, of the published family's structure, narrower. It starts as the
identity: training has to find the differences only. No adversary: it learns what is likely, not what looks real.
"""

import argparse
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from cameo.flows.gpen import ZOOM
from demo import photos
from demo.held_out import scores
from demo.poor_photo import impoverish, random_poverty
from exporters.gpen import load_generator
from exporters.networks.gpen import Architecture, FullGenerator
from exporters.networks.gpen_layers import GAIN, SLOPE, ModulatedConv2d
from exporters.networks.gpen_training import quickened
from exporters.trainable.gpen import generator_groups

log = logging.getLogger(__name__)
Image = NDArray[np.uint8]
SIZE = 256
FORMULA = Architecture.of(SIZE, narrow=1 / 8, channel_multiplier=1, style_dim=64)
# Twice the 8 channels of the formula at full size: engines compute channels in blocks of 8, so pruning could take none.
ARCHITECTURE = replace(FORMULA, encoder=(16, *FORMULA.encoder[1:]), styled=(*FORMULA.styled[:-2], 16, 16))
NETWORK = f"gpen-bfr-{SIZE}"
GRAIN = 0.05  # of a range of 2: 6 levels
WEIGHTS = Path(__file__).parent / "gpen" / f"GPEN-BFR-{SIZE}.pth"


@dataclass(frozen=True)
class Training:
    """How the network is trained."""

    minutes: float = 33
    batch_size: int = 2  # of each process
    views: int = 600
    face_share: float = 0.5  # part of the views that show the portrait's face as the flow aligns it
    learning_rate: float = 6e-3
    averaging: float = 0.99  # of the weights per step
    seed: int = 0
    start: Path | None = None  # weights to go on from; None starts from the identity


def train(training: Training, path: Path) -> FullGenerator:
    """The trained generator with averaged weights; every 100 steps those so far are written to `path`.

    The learning rate falls with the time that is left, so that any machine ends well, however far it comes.
    """
    rank = _join_others()
    torch.manual_seed(training.seed)
    network = quickened(widened(load_generator(training.start, NETWORK)) if training.start else identity_generator())
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


def identity_generator() -> FullGenerator:
    """A generator that all but returns its input: the photo passes in 6 channels of e_S, as x and -x.

    A leaky ReLU f loses no information about x when it sees both signs: f(f(x)) - f(f(-x)) = (1 + slope**2) x.
    """
    network = FullGenerator(ARCHITECTURE)
    first, picture = network.ecd0[0][0], network.generator.to_rgbs[-1]
    signs = torch.cat([torch.eye(3), -torch.eye(3)])  # (6, 3)
    skip = slice(ARCHITECTURE.styled[-1], ARCHITECTURE.styled[-1] + 6)
    with torch.no_grad():
        for layer in (network.generator.conv1, *network.generator.convs):
            layer.noise.weight.fill_(1)
        for rgb in (network.generator.to_rgb1, *network.generator.to_rgbs):
            rgb.conv.weight *= 0.02
        for modulated in (module for module in network.modules() if isinstance(module, ModulatedConv2d)):
            modulated.modulation.weight *= 0.1  # at first, a picture's style says little about how to draw it
        first.weight[:6, :, 0, 0] = signs / first.scale
        picture.conv.weight[0, :, skip, 0, 0] = signs.T / (GAIN**2 * (1 + SLOPE**2) * picture.conv.scale)
        picture.conv.modulation.weight[skip] = 0
    return network


def widened(network: FullGenerator) -> FullGenerator:
    """A generator of `ARCHITECTURE` that draws what a narrower one draws: nobody reads its other channels yet."""
    wide, old = FullGenerator(ARCHITECTURE), network.state_dict()
    new = wide.state_dict()
    places: dict[str, dict[int, list[int]]] = {}  # by key and axis: where the old values lie
    read: dict[str, dict[int, float]] = {}  # by key and axis that is read along: what the old values are scaled by
    groups = zip(generator_groups(network.architecture), generator_groups(ARCHITECTURE), strict=True)
    for before, after in groups:
        for member in after.members:
            places.setdefault(member.key, {}).setdefault(member.axis, []).extend(member.places(range(before.channels)))
            if member.fan_in:  # divided by the square root of the axis's size
                axis = member.axis
                scale = math.sqrt(new[member.key].shape[axis] / old[member.key].shape[axis])
                read.setdefault(member.key, {})[axis] = scale
    for key, tensor in new.items():
        for axis, scale in read.get(key, {}).items():
            unread = set(range(tensor.shape[axis])) - set(places[key][axis])
            tensor.index_fill_(axis, torch.tensor(sorted(unread), dtype=torch.long), 0)
            old[key] = old[key] * scale
        where = [sorted(places.get(key, {}).get(axis, range(size))) for axis, size in enumerate(old[key].shape)]
        tensor[np.ix_(*where)] = old[key]
    wide.load_state_dict(new)
    return wide


def restoration_loss(restored: Tensor, good: Tensor) -> Tensor:
    """The error of pixels and, to keep it sharp, of the differences between neighbours."""
    error = restored - good
    return _size(error) + 2 * (_size(error.diff(dim=2)) + _size(error.diff(dim=3)))


def _size(error: Tensor) -> Tensor:
    """Mean size of errors, the square of small ones: a photo's own grain, which nobody can restore, hardly counts."""
    return (error.square() + GRAIN**2).sqrt().mean() - GRAIN


def make_views(training: Training) -> Image:
    """Random sharp views, uint8 `(N, S, S, 3)` RGB: faces as the flow aligns them, and whatever photos show."""
    rng = np.random.default_rng(training.seed)
    everything = [photo.read()[..., ::-1].copy() for photo in photos.TRAINING]
    faces = [(image, face.five_points) for image in everything for face in CascadeFinder()(image)]
    views = []
    for _ in range(training.views):
        if rng.random() < training.face_share:
            image, points = faces[rng.integers(len(faces))]
            view = face_view(image, points, rng)
        else:
            view = photos.sharp_view(everything[rng.integers(len(everything))], SIZE, rng)
        bgr = np.ascontiguousarray(view[:, :: rng.choice((-1, 1)), ::-1])
        views.append(photos.recolour(bgr, rng)[..., ::-1])
    return np.stack(views)


def face_view(image: Image, points: Points, rng: np.random.Generator) -> Image:
    """The aligned face, uint8 `(S, S, 3)`, at times turned, nearer, farther or aside, as face finders err."""
    aligned = similarity_in_crop_frame(points.astype(np.float32), square_template(SIZE, ZOOM))
    middle = SIZE / 2
    stray = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 8), rng.uniform(0.8, 1.8))
    stray[:, 2] += rng.normal(0, 0.05 * SIZE, 2)
    matrix: Matrix = stray @ np.vstack([aligned, (0, 0, 1)])
    return photos.shrunk_without_aliasing(image, matrix, SIZE)


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
    views = make_views(training)
    rng = np.random.default_rng((training.seed + 1, rank))
    while True:
        good = views[rng.integers(len(views), size=training.batch_size)]
        poor = np.stack([impoverish(view, random_poverty(rng), rng) for view in good])
        yield _to_tensor(poor), _to_tensor(good)


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
        "--weights", type=Path, help="weights to go on from, with other views than before: name a --seed"
    )
    parser.add_argument("--seed", type=int, default=Training.seed, help="of views, damage and first weights")
    parser.add_argument("--minutes", type=float, default=Training.minutes, help="how long to train")
    parser.add_argument("--learning-rate", type=float, default=Training.learning_rate, help="the highest, of Adam")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = Training(
        minutes=arguments.minutes,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        start=arguments.weights,
    )
    network = train(training, arguments.out)
    if distributed.is_initialized() and distributed.get_rank():
        return
    for name, score in scores(lambda image: restored(network, image), SIZE).items():
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
