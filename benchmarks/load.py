"""What the machine does while something is timed: what others use of its cores, its clock, its heat, its energy.

From Linux's /proc and /sys, and from NVIDIA's library where its Python module (pynvml) is there; what cannot be read
is None, never a guess.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC, SYS = Path("/proc"), Path("/sys")
SHARE = 0.1  # of a core: others that use more disturb a turn
GRAIN = 0.03  # seconds of a core that the kernel's ticks may be wrong by
COARSE = 1.0  # seconds in which a GPU's counter of energy moves about ten times: in fewer it tells nothing


class Reading(NamedTuple):
    """Counters at one moment, in seconds and joules."""

    wall: float
    busy: float | None  # of all cores
    own: float | None  # of the processes asked about, and their ended children
    joules: float | None  # used so far; of the GPU if there is one, else of the processor


class Turn(NamedTuple):
    """What happened between two readings."""

    other_cores: float | None  # cores that other processes used, on the average
    disturbed: bool
    joules: float | None  # None for a turn that is shorter than COARSE


def read(pids: list[int]) -> Reading:
    """The counters now; `pids` are the processes that work on what is timed."""
    return Reading(time.perf_counter(), _busy(), _own(pids), _joules())


def between(before: Reading, after: Reading) -> Turn:
    """What happened from `before` to `after`."""
    wall, others = after.wall - before.wall, None
    if None not in (before.busy, before.own, after.busy, after.own):
        others = max(0.0, (after.busy - before.busy) - (after.own - before.own))
    joules = None
    if None not in (before.joules, after.joules) and after.joules >= before.joules:
        joules = after.joules - before.joules if wall >= COARSE else None
    disturbed = others is not None and others > SHARE * wall + GRAIN
    return Turn(None if others is None else others / wall, disturbed, joules)


def clock_mhz() -> float | None:
    """The clock now: of the GPU if there is one, else the mean of the cores."""
    if (card := _card()) is not None:
        nvml, handle = card
        return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    with suppress(OSError, ValueError, ZeroDivisionError):
        lines = (PROC / "cpuinfo").read_text().splitlines()
        found = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
        return sum(found) / len(found)
    return None


def celsius() -> float | None:
    """The hottest sensor now: of the GPU if there is one, else of the machine."""
    if (card := _card()) is not None:
        nvml, handle = card
        return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    found = []
    for path in SYS.glob("class/thermal/thermal_zone*/temp"):
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()) / 1000)
    return max(found, default=None)


def _busy() -> float | None:
    with suppress(OSError, ValueError, IndexError):
        user, nice, system, _, _, irq, soft, steal = map(
            int, (PROC / "stat").read_text().split()[1:9]
        )
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return None


def _own(pids: list[int]) -> float | None:
    ticks = 0
    for pid in pids:
        try:
            after_name = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, after_name[11:15]))  # utime, stime, and those of ended children
        except (OSError, ValueError, IndexError):
            return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _joules() -> float | None:
    if (card := _card()) is not None:
        nvml, handle = card
        with suppress(nvml.NVMLError):
            return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        return None
    with suppress(OSError, ValueError):
        packages = sorted((SYS / "class/powercap").glob("intel-rapl:[0-9]"))
        counters = [int((package / "energy_uj").read_text()) / 1e6 for package in packages]
        return sum(counters) if counters else None
    return None


def _card():
    """NVIDIA's library and its first card; None where there is none, or no module to ask it by."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no module, no driver, no card: each says so with an error of its own
        return None
