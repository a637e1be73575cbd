"""What the machine does while a run trains: CPU, memory, disk and GPUs, in events of their own.

    with Sampler(logger.log, Path("out")):
        train()

A thread of its own looks every ten seconds, for a millisecond. Whatever it cannot read it leaves
out: nothing here raises into the training, or waits for it.
"""

import importlib.util
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

EVERY_S = 10.0
FIRST_S = 1.0  # a look so soon after the start that also a short run has some
Figures = dict[str, float | int]


class Sampler:
    """Logs a `system` event every `every_s` seconds while it is entered, and one at its end.

    Args:
        log: takes the event's kind and its fields, on any thread.
        folder: whose file system is looked at.

    Raises:
        ValueError: psutil is not installed.
    """

    def __init__(self, log: Callable[..., None], folder: Path, *, every_s: float = EVERY_S) -> None:
        if importlib.util.find_spec("psutil") is None:
            raise ValueError("--log_system=True needs psutil: pip install psutil nvidia-ml-py")
        self._log, self._folder, self._every_s = log, folder, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(timeout=5)  # a driver may hang: the run does not wait for it

    def _run(self) -> None:
        with suppress(Exception):  # a thread that dies of a driver is one that says nothing
            machine = Machine(self._folder)
            wait_s = min(FIRST_S, self._every_s)
            is_last = False
            while not is_last:
                is_last = self._end.wait(wait_s)
                wait_s = self._every_s
                self._log("system", **machine.look())
            machine.close()


class Machine:
    """The figures of this machine and this process; what it cannot tell is left out."""

    def __init__(self, folder: Path) -> None:
        import psutil  # optional: --log_system asks for it

        self._psutil = psutil
        self._process = psutil.Process()
        self._folder = folder
        self._gpus = _Gpus()
        self._io: tuple[float, int, int] | None = None
        for source in (self._cpu, self._disk):  # their first figures are of no interval
            with suppress(Exception):
                source()

    def look(self) -> Figures:
        """What there is to say now, and what it took to find out (`sample_ms`)."""
        started = time.perf_counter()
        figures: Figures = {}
        for source in (self._cpu, self._memory, self._disk, self._gpus.look):
            with suppress(Exception):  # a container may hide any of them
                figures |= source()
        return figures | {"sample_ms": round(1000 * (time.perf_counter() - started), 3)}

    def close(self) -> None:
        self._gpus.close()

    def _cpu(self) -> Figures:
        """`process_cpu_percent`: of one core, so 400 are four."""
        return {
            "cpu_percent": self._psutil.cpu_percent(),
            "process_cpu_percent": self._process.cpu_percent(),
        }

    def _memory(self) -> Figures:
        memory = self._psutil.virtual_memory()
        return {
            "memory_used_bytes": memory.total - memory.available,
            "memory_percent": memory.percent,
            "process_memory_bytes": self._process.memory_info().rss,
        }

    def _disk(self) -> Figures:
        usage = shutil.disk_usage(self._folder)
        figures: Figures = {
            "disk_free_bytes": usage.free,
            "disk_percent": round(100 * (1 - usage.free / usage.total), 1),
        }
        io, now = self._psutil.disk_io_counters(), time.monotonic()
        if io is not None:
            if self._io is not None and now > self._io[0]:
                past_s, read, written = self._io
                figures["disk_read_bytes_per_s"] = round((io.read_bytes - read) / (now - past_s))
                written_bytes = io.write_bytes - written
                figures["disk_written_bytes_per_s"] = round(written_bytes / (now - past_s))
            self._io = (now, io.read_bytes, io.write_bytes)
        return figures


class _Gpus:
    """NVIDIA's, by NVML, if its Python package and a driver are there; else none."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        with suppress(Exception):  # no package, no driver, no permission: no figures
            import pynvml

            self._nvml = pynvml
            pynvml.nvmlInit()
            n = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(n)]

    def look(self) -> Figures:
        return {
            f"gpu{i}_{name}": value
            for i, handle in enumerate(self._handles)
            for name, value in self._look_at(handle)
        }

    def close(self) -> None:
        if self._handles:
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _look_at(self, handle: Any) -> Iterator[tuple[str, float]]:
        """Each figure by itself: one that a GPU does not have does not cost the others."""
        nvml = self._nvml
        with suppress(nvml.NVMLError):
            yield "percent", nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        with suppress(nvml.NVMLError):
            yield "memory_used_bytes", nvml.nvmlDeviceGetMemoryInfo(handle).used
        with suppress(nvml.NVMLError):
            yield "power_w", nvml.nvmlDeviceGetPowerUsage(handle) / 1000
        with suppress(nvml.NVMLError):
            sensor = nvml.NVML_TEMPERATURE_GPU
            yield "temperature_c", nvml.nvmlDeviceGetTemperature(handle, sensor)
