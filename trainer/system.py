"""CPU, memory, disk and GPU usage during training, logged as `system` events.

    with Sampler(logger.log, Path("out")):
        train()

A thread takes a sample every ten seconds. Values that cannot be read are left out: nothing here
raises into the training or blocks it.
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
FIRST_S = 1.0  # the first sample is early, so that short runs have one
Values = dict[str, float | int]


class Sampler:
    """Logs a `system` event every `every_s` seconds while it is entered, and one on exit.

    Args:
        log: called with the kind of event and its fields, in a thread.
        folder: a folder in the file system to report.

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
        self._thread.join(timeout=5)  # a driver may hang: the run does not wait longer

    def _run(self) -> None:
        with suppress(Exception):  # a failing driver ends the samples, not the run
            machine = Machine(self._folder)
            wait_s = min(FIRST_S, self._every_s)
            is_last = False
            while not is_last:
                is_last = self._end.wait(wait_s)
                wait_s = self._every_s
                self._log("system", **machine.sample())
            machine.close()


class Machine:
    """The usage of this machine and process; values that cannot be read are left out."""

    def __init__(self, folder: Path) -> None:
        import psutil  # optional: needed by --log_system only

        self._psutil = psutil
        self._process = psutil.Process()
        self._folder = folder
        self._gpus = _Gpus()
        self._io: tuple[float, int, int] | None = None
        for source in (self._cpu, self._disk):  # their first call starts the interval
            with suppress(Exception):
                source()

    def sample(self) -> Values:
        """The current values, and how long it took to read them (`sample_ms`)."""
        started = time.perf_counter()
        values: Values = {}
        for source in (self._cpu, self._memory, self._disk, self._gpus.sample):
            with suppress(Exception):  # a container may hide any of them
                values |= source()
        return values | {"sample_ms": round(1000 * (time.perf_counter() - started), 3)}

    def close(self) -> None:
        self._gpus.close()

    def _cpu(self) -> Values:
        """`process_cpu_percent` is relative to one core: 400 is four busy cores."""
        return {
            "cpu_percent": self._psutil.cpu_percent(),
            "process_cpu_percent": self._process.cpu_percent(),
        }

    def _memory(self) -> Values:
        memory = self._psutil.virtual_memory()
        return {
            "memory_used_bytes": memory.total - memory.available,
            "memory_percent": memory.percent,
            "process_memory_bytes": self._process.memory_info().rss,
        }

    def _disk(self) -> Values:
        usage = shutil.disk_usage(self._folder)
        values: Values = {
            "disk_free_bytes": usage.free,
            "disk_percent": round(100 * (1 - usage.free / usage.total), 1),
        }
        io, now = self._psutil.disk_io_counters(), time.monotonic()
        if io is not None:
            if self._io is not None and now > self._io[0]:
                previous_s, read, written = self._io
                values["disk_read_bytes_per_s"] = round((io.read_bytes - read) / (now - previous_s))
                written_bytes = io.write_bytes - written
                values["disk_written_bytes_per_s"] = round(written_bytes / (now - previous_s))
            self._io = (now, io.read_bytes, io.write_bytes)
        return values


class _Gpus:
    """NVIDIA GPUs, through NVML if its Python package and a driver are installed."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        with suppress(Exception):  # no package, driver or permission: no values
            import pynvml

            self._nvml = pynvml
            pynvml.nvmlInit()
            n = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(n)]

    def sample(self) -> Values:
        return {
            f"gpu{i}_{name}": value
            for i, handle in enumerate(self._handles)
            for name, value in self._sample(handle)
        }

    def close(self) -> None:
        if self._handles:
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _sample(self, handle: Any) -> Iterator[tuple[str, float]]:
        """One value at a time: if a GPU lacks one, the others are still read."""
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
