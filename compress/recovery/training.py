"""The training loop: any student, any loss. Resumable, with progress, stopped when held-out fidelity no longer grows.

Everything that a step depends on (weights, optimizer, step number, the best weights so far) is in one checkpoint that
is renamed into place; batches and learning rate are functions of the step. So a run killed at any moment and started
again ends as it would have ended (docs/decisions/092).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from cameo.errors import OutputError, StageError

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """How long and how fast a student learns; times are in steps. `identity` names everything else that it rests on."""

    steps: int = 1500
    learning_rate: float = 1e-3
    warm_up: int = 50
    report_every: int = 10
    evaluate_every: int = 100
    patience: int = 8
    """Evaluations in a row without a better held-out fidelity before it stops."""
    least_gain_db: float = 0.02
    identity: str = ""

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to zero."""
        return (
            self.learning_rate * min(1, (step + 1) / self.warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        )


@dataclass
class Progressed:
    """Where a run is: steps done, held-out PSNR in dB of the start and of the best, and which step had it."""

    step: int = 0
    started_at: float = -math.inf
    best: float = -math.inf
    best_step: int = 0
    stale: int = 0


def train(
    student: nn.Module,
    loss: Callable[[int], Tensor],
    fidelity: Callable[[], float],
    plan: Plan,
    folder: Path,
) -> Progressed:
    """Teach the student in place; it ends with the weights of its best held-out fidelity.

    `loss(step)` is the loss on that step's batch, `fidelity()` the held-out PSNR in dB of the student as it is.
    `folder` keeps the checkpoint; a run with the same plan goes on from it.

    Raises:
        StageError: the loss is no longer a finite number.
        OutputError: the checkpoint cannot be written.
    """
    optimizer = torch.optim.Adam(student.parameters(), plan.learning_rate, betas=(0.9, 0.99))
    done, best = _resume(student, optimizer, plan, folder)
    if done.step == 0:
        done.started_at = done.best = fidelity()
    while done.step < plan.steps and done.stale < plan.patience:
        value = _step(student, optimizer, loss(done.step), plan.learning_rate_at(done.step))
        done.step += 1
        if done.step % plan.report_every == 0:
            _report(done, plan, value)
        if done.step % plan.evaluate_every == 0 or done.step == plan.steps:
            best = _evaluate(student, fidelity(), done, best, plan)
            _save(student, optimizer, plan, done, best, folder)
    student.load_state_dict(best)
    return done


def _step(student: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise StageError(f"the recovery broke: its loss is {value}, expected a number; use a smaller learning rate")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(student.parameters(), max_norm=1.0)
    optimizer.step()
    return value


def _report(done: Progressed, plan: Plan, loss: float) -> None:
    line = "recovering, step %d of %d: loss %.4f, best held-out %.1f dB"
    progress = ("recovering", done.step, plan.steps)
    log.info(line, done.step, plan.steps, loss, done.best, extra={"progress": progress})


def _evaluate(student: nn.Module, found: float, done: Progressed, best: Any, plan: Plan) -> Any:
    """The best weights so far; `done` is brought up to date."""
    log.info("step %d of %d: held-out %.2f dB (best %.2f)", done.step, plan.steps, found, max(found, done.best))
    done.stale = 0 if found > done.best + plan.least_gain_db else done.stale + 1
    if found <= done.best:
        return best
    done.best, done.best_step = found, done.step
    return _copied(student)


def _copied(student: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in student.state_dict().items()}


def _resume(
    student: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, folder: Path
) -> tuple[Progressed, dict[str, Tensor]]:
    path = folder / CHECKPOINT
    if not path.is_file():
        return Progressed(), _copied(student)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        log.warning("%s cannot be read (%s): starting anew", path, str(error).partition("\n")[0])
        return Progressed(), _copied(student)
    if found["plan"] != asdict(plan):
        log.info("%s is of another run: starting anew", path)
        return Progressed(), _copied(student)
    student.load_state_dict(found["student"])
    optimizer.load_state_dict(found["optimizer"])
    done = Progressed(**found["progress"])
    log.info("resuming at step %d of %d", done.step, plan.steps)
    return done, found["best"]


def _save(
    student: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, done: Progressed, best: Any, folder: Path
) -> None:
    content = {
        "plan": asdict(plan),
        "progress": asdict(done),
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": best,
    }
    part = folder / f".{CHECKPOINT}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / CHECKPOINT)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            part.unlink()
        raise OutputError(f"cannot write {folder / CHECKPOINT} ({error}): free some space and run again") from error
