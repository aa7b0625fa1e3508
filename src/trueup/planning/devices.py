"""What devices have: memory, operations a second, bytes a second; each with where the number comes from."""

from __future__ import annotations

import difflib
import os
import re
import time
from dataclasses import dataclass
from typing import final

from trueup.errors import EXIT_USAGE, TrueupError

CPU = "cpu"
MOST_DEVICES = 1 << 20


@final
@dataclass(frozen=True, kw_only=True)
class Device:
    """One device."""

    name: str
    memory: float
    "Bytes."
    bf16: float
    "Multiplications and additions a second of dense matrix products in bfloat16."
    fp32: float
    "The same in float32, without TF32, which torch leaves off."
    bandwidth: float
    "Bytes a second between memory and processor."
    source: str

    @property
    def kind(self) -> str:
        """torch's name of such a device."""
        return CPU if self.name == CPU else "cuda"

    def rate(self, dtype: str) -> float:
        """Operations a second in a precision; float64 is taken as half of float32."""
        return {"bfloat16": self.bf16, "float32": self.fp32}.get(dtype, self.fp32 / 2)


def _gpu(name: str, gb: float, bf16: float, fp32: float, gbps: float, source: str) -> Device:
    """A GPU by what its data sheet says: GB, TFLOP/s dense, TFLOP/s, GB/s."""
    return Device(
        name=name, memory=gb * 1e9, bf16=bf16 * 1e12, fp32=fp32 * 1e12, bandwidth=gbps * 1e9, source=source
    )


GPUS = (
    _gpu("A10", 24, 125, 31.2, 600, "NVIDIA A10 data sheet, 2021"),
    _gpu("L4", 24, 121, 30.3, 300, "NVIDIA L4 data sheet, 2023; half of the rate with sparsity"),
    _gpu("RTX3090", 24, 71, 35.6, 936, "NVIDIA GA102 white paper, 2021"),
    _gpu("RTX4090", 24, 165, 82.6, 1008, "NVIDIA Ada white paper, 2022"),
    _gpu("A100-40", 40, 312, 19.5, 1555, "NVIDIA A100 data sheet, 2021"),
    _gpu("L40S", 48, 362, 91.6, 864, "NVIDIA L40S data sheet, 2023; half of the rate with sparsity"),
    _gpu("A100", 80, 312, 19.5, 2039, "NVIDIA A100 data sheet (SXM, 80 GB), 2021"),
    _gpu("H100", 80, 989, 67, 3350, "NVIDIA H100 data sheet (SXM), 2023; half of the rate with sparsity"),
    _gpu("H200", 141, 989, 67, 4800, "NVIDIA H200 data sheet (SXM), 2024; half of the rate with sparsity"),
    _gpu("B200", 180, 2250, 75, 8000, "NVIDIA DGX B200 data sheet, 2024, an eighth of the system; dense"),
)


@final
@dataclass(frozen=True, kw_only=True)
class Devices:
    """Some devices of one kind."""

    device: Device
    count: int = 1

    def __str__(self) -> str:
        return self.device.name if self.count == 1 else f"{self.device.name}x{self.count}"


def parse(text: str) -> tuple[str, int]:
    """Name and number of devices: `H100x8`, `cpu`. Raises E865 for what is no such thing."""
    names = {gpu.name.lower(): gpu.name for gpu in GPUS} | {CPU: CPU}
    found = re.fullmatch(r"(.+?)(?:[x*](\d+))?", text.strip(), re.IGNORECASE)
    if text.strip().lower() in names:  # RTX4090 is no 4,090 devices
        return names[text.strip().lower()], 1
    stem = found[1].lower() if found else ""
    count = int(found[2] or 1) if found else 0
    known = ", ".join(names.values())
    if stem not in names:
        near = difflib.get_close_matches(stem, names, n=1)
        remedy = (
            f"did you mean {names[near[0]]}? {known} are known" if near else f"one of {known}; H100x8 is 8"
        )
        raise TrueupError(
            "E865", f"no device {text!r} is known", where="--gpu", remedy=remedy, exit_code=EXIT_USAGE
        )
    if not 1 <= count <= MOST_DEVICES or (stem == CPU and count > 1):
        reason = "this machine is one device" if stem == CPU else f"{count} devices are none to plan for"
        raise TrueupError(
            "E865", reason, where=f"--gpu {text}", remedy="write --gpu cpu, or H100x8", exit_code=EXIT_USAGE
        )
    return names[stem], count


def find(name: str, dtype: str) -> Device:
    """The device of a name that `parse` gave; of this machine what a second of work shows."""
    return this_machine(dtype) if name == CPU else next(gpu for gpu in GPUS if gpu.name == name)


def this_machine(dtype: str) -> Device:
    """This machine: all its memory, the rate of its matrix products and of its copies, measured now."""
    import torch

    kind = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(dtype, torch.float32)
    a, b = (torch.full((768, 768), 0.5, dtype=kind) for _ in range(2))
    block = torch.zeros(8 << 20, dtype=torch.float64)
    other = torch.zeros_like(block)
    rate = 2 * 768**3 / _quickest(lambda: torch.mm(a, b))
    passed = _quickest(lambda: other.copy_(block))
    return Device(
        name=CPU,
        memory=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        bf16=rate,
        fp32=rate if dtype != "float64" else 2 * rate,
        bandwidth=2 * block.numel() * 8 / passed,
        source=f"measured now: a product of 768 x 768 in {dtype}, {torch.get_num_threads()} threads; a copy",
    )


def _quickest(work: object, seconds: float = 0.3) -> float:
    """The least time that some work took, over a part of a second."""
    assert callable(work)
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return best
