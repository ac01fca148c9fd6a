"""Trains the demo weights of DCT-Net: the generator learns the look of cartoon_look.py.

    pip install torch tensorflow opencv-python-headless rich scikit-image scikit-learn matplotlib
    python -m demo.train_dctnet background head      # half an hour on two CPU cores with bfloat16

The background network starts as the identity, the head network from the background's weights. They see crops of freely
licensed photos and are graded on their final output, after the guided filter. Each is written as a frozen TensorFlow
graph, the form in which DCT-Net's authors ship theirs (docs/decisions/010).
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from demo import cartoon_look, photos
from demo.cartoon_look import Look
from exporters.dctnet.frozen_form import BLOCKS, LEAKY_SLOPE, published_shapes, read_variables, write_frozen_graph
from exporters.dctnet.network import Generator, to_variables

log = logging.getLogger(__name__)
Pairs = NDArray[np.uint8]  # (N, 2, H, W, 3) BGR: photo and cartoon


@dataclass(frozen=True)
class Training:
    """How one network is trained."""

    file_name: str
    look: Look
    face_share: float  # part of the views that show a face as the network will see it
    steps: int = 2800
    batch_size: int = 8
    patch_size: int = 160
    view_size: int = 288
    views: int = 400
    learning_rate: float = 1e-3
    seed: int = 0
    start_from: str | None = None  # a frozen graph in the same folder; None starts from the identity


TRAININGS = {
    "background": Training("cartoon_bg.pb", cartoon_look.BACKGROUND, face_share=0.25),
    "head": Training(
        "cartoon_h.pb",
        cartoon_look.HEAD,
        face_share=0.6,
        steps=400,
        views=200,
        learning_rate=6e-4,
        start_from="cartoon_bg.pb",
    ),
}


def train(training: Training, folder: Path) -> Generator:
    """The trained generator; `folder` holds the weights it starts from."""
    torch.manual_seed(training.seed)
    if training.start_from:
        network = Generator.from_variables(read_variables(folder / training.start_from))
    else:
        network = identity_generator()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), training.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_factor(step, training.steps))
    for step, (photo, cartoon) in enumerate(_batches(training)):
        with torch.autocast("cpu", torch.bfloat16):  # the guided filter stays in float32
            drawing = network(photo)
        loss = drawing_loss(drawing, cartoon)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            log.info("%s: step %d of %d, loss %.4f", training.file_name, step, training.steps, loss.item())
    return network.eval()


def identity_generator() -> Generator:
    """A generator that returns its input: the photo passes in 6 channels as x and -x, the others are random.

    A leaky ReLU loses no information about x when it sees both signs: f(f(x)) - f(f(-x)) = (1 + slope**2) x.
    """
    network = Generator(published_shapes())
    layers = {name: layer for name, layer in network.layers.items() if isinstance(layer, torch.nn.Conv2d)}
    for layer in layers.values():
        torch.nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
        torch.nn.init.zeros_(layer.bias)
    signs = torch.cat([torch.eye(3), -torch.eye(3)])  # (6, 3)
    with torch.no_grad():
        for block in BLOCKS:
            layers[f"{block}/conv2"].weight *= 0.3  # residual branches start small
        layers["Conv_7"].weight[:6] = 0  # nothing is added to the 6 channels on their way
        layers["Conv_8"].weight[:6] = 0
        layers["Conv"].weight[:6] = 0
        layers["Conv_9"].weight *= 0.01
        layers["Conv"].weight[:6, :, 3, 3] = signs
        layers["Conv_8"].weight[range(6), range(6), 1, 1] = 1
        layers["Conv_9"].weight[:, :6] = 0
        layers["Conv_9"].weight[:, :6, 3, 3] = signs.T / (1 + LEAKY_SLOPE**2)
    return network


def drawing_loss(drawing: Tensor, cartoon: Tensor) -> Tensor:
    """Mean absolute error in levels / 127.5, plus that of the differences between neighbours (keeps lines crisp)."""
    error = (drawing - cartoon) / 127.5
    gradient = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 0.5 * gradient


def make_views(training: Training) -> Pairs:
    """Random views and their cartoons, uint8 `(N, 2, S, S, 3)` BGR."""
    rng = np.random.default_rng(training.seed)
    everything = [(photo.read(), photo.face) for photo in photos.TRAINING]
    faces = [(image, face) for image, face in everything if face]
    views = []
    for _ in _progress(range(training.views), "views"):
        at_face = rng.random() < training.face_share
        choices = faces if at_face else everything
        image, face = choices[rng.integers(len(choices))]
        margin = cartoon_look.MARGIN
        view = photos.random_view(image, face if at_face else None, training.view_size + 2 * margin, rng)
        pair = np.stack([photos.degrade(view, rng), cartoon_look.cartoon(view, training.look)])
        views.append(pair[:, margin:-margin, margin:-margin])
    return np.stack(views)


def evaluate(network: Generator, look: Look) -> dict[str, tuple[float, float]]:
    """Mean absolute error (levels) and PSNR (dB) against the look, per photo held out."""
    scores = {}
    for photo in photos.HELD_OUT:
        image = photo.read()
        image = image[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4]
        with torch.no_grad():
            drawing = network(_to_tensor(image[None]))[0].permute(1, 2, 0).numpy()
        error = np.floor(drawing) - cartoon_look.cartoon(image, look)
        psnr = 20 * math.log10(255 / math.sqrt(float(np.square(error).mean())))
        scores[Path(photo.path).stem] = (float(np.abs(error).mean()), psnr)
    return scores


def _batches(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of photos and cartoons, float32 `(N, 3, P, P)` BGR levels."""
    views = make_views(training)
    rng = np.random.default_rng(training.seed + 1)
    size, room = training.patch_size, training.view_size - training.patch_size + 1
    for _ in _progress(range(training.steps), training.file_name):
        batch = []
        for index in rng.integers(len(views), size=training.batch_size):
            top, left = rng.integers(room, size=2)
            patch = views[index, :, top : top + size, left : left + size]
            batch.append(patch[:, :, :: rng.choice((-1, 1))])
        pairs = np.stack(batch)
        yield _to_tensor(pairs[:, 0]), _to_tensor(pairs[:, 1])


def _to_tensor(images: NDArray[np.uint8]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return tensor.contiguous(memory_format=torch.channels_last)


def _learning_rate_factor(step: int, steps: int, warm_up: int = 50) -> float:
    return min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _progress(items: range, title: str) -> Iterator[int]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns) as progress:
        yield from progress.track(items)


def main() -> None:
    """Trains the networks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=TRAININGS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the .pb files")
    parser.add_argument("--steps", type=int, help="instead of the number that the shipped weights had")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in arguments.networks:
        training = TRAININGS[name]
        if arguments.steps:
            training = dataclasses.replace(training, steps=arguments.steps)
        network = train(training, arguments.out)
        for photo, (error, psnr) in evaluate(network, training.look).items():
            log.info("%s on %s, held out: mean error %.2f levels, PSNR %.1f dB", name, photo, error, psnr)
        path = write_frozen_graph(to_variables(network.state_dict()), arguments.out / training.file_name)
        log.info("wrote %s", path)


if __name__ == "__main__":
    main()
