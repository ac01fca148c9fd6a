"""Train the demo weights of GPEN: a generator learns to undo what poor_photo.py does.

    pip install torch opencv-python-headless scikit-image scikit-learn matplotlib
    OMP_NUM_THREADS=1 python -m demo.train_gpen --out my.pth

It goes through `STAGES` unattended; stopped, it goes on where it was (`my.pth.state`). It sees freely licensed photos,
spoilt and cut out as the photo flow cuts out faces.

The network is `exporters/gpen/network.py` as it is, of the published family's structure, narrower. It starts as the
identity, so training has to find the differences only, and at half the size and on crops, where a step costs little;
grown to the whole, it enlarges and sharpens what it restored. No adversary: it learns what is likely.
"""

import argparse
import logging
import math
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from demo.gpen_crops import for_crops, for_wholes
from demo.gpen_detail import see_detail
from demo.gpen_pictures import solve_pictures
from demo.gpen_start import grown, identity_generator
from demo.gpen_steps import Steps
from demo.gpen_views import Views, as_tensor
from demo.held_out import scores
from exporters.gpen.network import FullGenerator
from exporters.gpen.training_form import quickened

log = logging.getLogger(__name__)
Image = NDArray[np.uint8]
SIZE = 512
NETWORK = f"gpen-bfr-{SIZE}"
GRAIN = 0.06  # of a range of 2: 8 levels
AVERAGED = 1000  # steps, about, of which the averages of weights tell
WARM_UP = 100  # steps
FIRST_BATCHES, SOLVED_BATCHES = 3, 24  # of which features and pictures are chosen
SAVED_EVERY = 100  # steps
WEIGHTS = Path(__file__).parent / "gpen" / f"GPEN-BFR-{SIZE}.pth"


@dataclass(frozen=True)
class Stage:
    """A part of the training: a network of `size` sees `count` crops of `side` pixels a step."""

    size: int
    side: int
    count: int
    minutes: float
    learning_rate: float

    @property
    def views(self) -> Views:
        """The crops, from the frame of `SIZE`."""
        enlarged = SIZE // self.size
        return Views(self.count, self.side * enlarged, halved=enlarged == 2)


STAGES = (
    Stage(size=256, side=128, count=2, minutes=18, learning_rate=5e-4),
    Stage(size=512, side=256, count=1, minutes=9, learning_rate=4e-5),
)


class Training:
    """The stages on the way, and what is needed to go on with them."""

    def __init__(self, stages: tuple[Stage, ...] = STAGES, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.stages, self.seed, self.number = stages, seed, 0
        self.network = identity_generator(stages[0].size)

    @property
    def stage(self) -> Stage:
        """The one on the way."""
        return self.stages[self.number]

    def run(self, path: Path) -> FullGenerator:
        """The trained generator with averaged weights; at times those so far go to `path`, and the state beside it."""
        state = path.with_name(path.name + ".state")
        if state.exists():
            self._resume(torch.load(state, weights_only=True))
            log.info("stage %d goes on at step %d", self.number, self.step)
        else:
            self._begin()
        while True:
            self._go(path, state)
            if self.number + 1 == len(self.stages):
                return for_wholes(self.averaged.module)
            self.network, self.number = FullGenerator.from_state_dict(_weights(self.averaged.module)), self.number + 1
            self._begin()

    def _begin(self) -> None:
        """Start a stage: what is new in the network gets features, and all pictures are chosen anew."""
        is_new, has_grown = self.number == 0, self.network.architecture.out_size < self.stage.size
        if has_grown:
            self.network = grown(self.network)
        self._ready()
        if is_new or has_grown:
            batches = self.stage.views.batches(np.random.default_rng((self.seed, self.number)))
            see_detail(self.network, torch.cat([poor for poor, _ in islice(batches, FIRST_BATCHES)]), has_grown)
            solve_pictures(self.network, islice(batches, SOLVED_BATCHES))
            self._ready()  # averages begin with these weights

    def _ready(self) -> None:
        """Make the network what the stage needs, with averages and optimizers."""
        self.network = for_crops(quickened(self.network))
        self.averaged = AveragedModel(self.network, avg_fn=_averaged)
        self.optimizer = Steps(self.network)
        self.step, self.seconds = 0, 0.0

    def _go(self, path: Path, state: Path) -> None:
        """The rest of a stage."""
        batches = self.stage.views.batches(np.random.default_rng((self.seed, self.number, self.step)))
        losses: list[float] = []
        while self.seconds < self.stage.minutes * 60:
            start = time.monotonic()
            losses.append(self._learn(*next(batches)))
            self.step, self.seconds = self.step + 1, self.seconds + time.monotonic() - start
            if self.step % SAVED_EVERY == 0:
                minutes = self.stage.minutes - self.seconds / 60
                loss = np.mean(losses[-SAVED_EVERY:])
                log.info("stage %d, step %d, loss %.5f, %.1f minutes left", self.number, self.step, loss, minutes)
                self._save(path, state)
        self._save(path, state)

    def _learn(self, poor: Tensor, good: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            attempt = self.network(poor)
        loss = restoration_loss(attempt.float(), good)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step(self.stage.learning_rate * self._learning_rate_factor())
        self.averaged.update_parameters(self.network)
        return loss.item()

    def _learning_rate_factor(self) -> float:
        """From 0 to 1 in the first steps, then down to 0 with the time that is left, however far a machine comes."""
        done = min(1, self.seconds / (60 * self.stage.minutes))
        return min(1, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))

    def _save(self, path: Path, state: Path) -> None:
        save(_weights(self.averaged.module), path)
        save(self._state(), state)

    def _state(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        self.number, self.network = state["number"], FullGenerator.from_state_dict(state["network"])
        self._ready()
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def restoration_loss(restored: Tensor, good: Tensor) -> Tensor:
    """The mean error of pixels, as it is where it is large, its square where it is small."""
    return ((restored - good).square() + GRAIN**2).sqrt().mean() - GRAIN


def restored(network: FullGenerator, image: Image) -> Image:
    """The image restored and truncated to levels as the authors do, both uint8 `(S, S, 3)` RGB."""
    with torch.no_grad():
        levels = (network(as_tensor(image[None])) * 127.5 + 127.5).clamp(0, 255)
    return np.asarray(levels[0].permute(1, 2, 0).numpy().astype(np.uint8))


def save(content: dict[str, Any], path: Path) -> None:
    """Write it whole or not at all; weights as GPEN's authors do, a plain state dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    part.replace(path)


def _averaged(so_far: Tensor, now: Tensor, number: Tensor | int) -> Tensor:
    """The average after `number` others: of a tenth of all steps at first, later of the last `AVERAGED`."""
    return so_far + (now - so_far) * max(1 / AVERAGED, 10 / (10 + float(number)))


def _weights(network: FullGenerator) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def main() -> None:
    """Trains the network and says what it does to a face that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file for the weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    network = Training().run(arguments.out)
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
