"""`make bench-gpu`: GPEN on an NVIDIA GPU, the faithful PyTorch original against our graph on every engine that runs.

    python -m bench.gpu [--network gpen-bfr-512] [--weights FOLDER] [--bundle DIR] [--out build/bench-gpu]

Every contender (`contenders.py`) runs in a process of its own (`worker.py`): latency by CUDA events, memory by NVML and
by PyTorch's allocator, fidelity on the device against the original in strict FP32. Results are lines of
`OUT/results.jsonl` as soon as they are there, so a run that was stopped goes on where it was; `--render` makes the page
of them, without a GPU. `--dry-run` takes the same way with a narrow network on the CPU, to see that the code works: its
numbers mean nothing and go nowhere but to OUT.
"""
