"""`--log_system=True` logs `system` events and does not disturb the training."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest

import eventlog
from trainer import system
from trainer.system import Machine, Sampler
from trainer.train import main

psutil = pytest.importorskip("psutil")


def kinds(out_dir):
    (journal,) = out_dir.glob("*.jsonl")
    return [record.event for record in eventlog.scan(journal)]


def test_a_run_with_log_system_logs_system_events(tmp_path, flags):
    assert main(flags(tmp_path, log_system=True)) == 0

    (journal,) = tmp_path.glob("*.jsonl")
    looks = [r.fields for r in eventlog.scan(journal) if r.event == "system"]
    assert looks
    assert looks[-1]["process_memory_bytes"] > 1_000_000
    assert 0 <= looks[-1]["cpu_percent"] <= 100
    assert kinds(tmp_path)[-1] == "close"
    assert "system" not in {thread.name for thread in threading.enumerate()}


def test_a_run_without_log_system_has_no_system_events(tmp_path, flags):
    assert main(flags(tmp_path)) == 0

    assert "system" not in kinds(tmp_path)


def test_log_system_changes_no_loss(tmp_path, flags, only_run, losses):
    for name, expected in (("with", True), ("without", False)):
        assert main(flags(tmp_path / name, log_system=expected)) == 0

    assert losses(only_run(tmp_path / "with")) == losses(only_run(tmp_path / "without"))


def test_it_samples_periodically_and_once_at_the_end(tmp_path):
    looks = []
    with Sampler(lambda event, **fields: looks.append(fields), tmp_path, every_s=0.01):
        while len(looks) < 3:
            time.sleep(0.005)
    n_looks = len(looks)
    time.sleep(0.05)

    assert len(looks) == n_looks > 3


def test_a_value_that_cannot_be_read_is_left_out_alone(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("not in this container")

    monkeypatch.setattr(psutil, "cpu_percent", refuse)
    monkeypatch.setattr(system.shutil, "disk_usage", refuse)

    values = Machine(tmp_path).sample()

    assert "cpu_percent" not in values
    assert "disk_free_bytes" not in values
    assert values["memory_used_bytes"] > 0


def test_an_error_in_the_log_ends_only_the_thread(tmp_path):
    def log(event, **fields):
        raise RuntimeError("no")

    with Sampler(log, tmp_path, every_s=0.01) as sampler:
        sampler._thread.join(timeout=10)

    assert not sampler._thread.is_alive()


def test_a_hanging_driver_does_not_delay_the_end(tmp_path, monkeypatch):
    freed = threading.Event()
    monkeypatch.setattr(Machine, "sample", lambda self: freed.wait(60) and {})
    sampler = Sampler(lambda event, **fields: None, tmp_path, every_s=0.01)
    join = sampler._thread.join
    monkeypatch.setattr(sampler._thread, "join", lambda timeout: join(min(timeout, 0.1)))

    with sampler:
        pass

    assert sampler._thread.is_alive()
    freed.set()
    join(10)


def nvml(monkeypatch, **more):
    """A fake NVML with one GPU that has no power sensor."""

    class NVMLError(Exception):
        pass

    def refuse(handle):
        raise NVMLError("Not Supported")

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=97),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=5_000),
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetTemperature=lambda handle, sensor: 61,
    )
    vars(fake).update(more)
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def test_the_values_of_a_gpu_are_logged_as_far_as_it_has_them(tmp_path, monkeypatch):
    nvml(monkeypatch)

    values = Machine(tmp_path).sample()

    gpu = {key: value for key, value in values.items() if key.startswith("gpu")}
    assert gpu == {"gpu0_percent": 97, "gpu0_memory_used_bytes": 5_000, "gpu0_temperature_c": 61}


def test_without_a_driver_the_other_values_are_logged(tmp_path, monkeypatch):
    def refuse():
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    nvml(monkeypatch, nvmlInit=refuse)

    values = Machine(tmp_path).sample()

    assert not [key for key in values if key.startswith("gpu")]
    assert values["memory_used_bytes"] > 0


def test_without_psutil_log_system_is_an_error_before_any_work(
    tmp_path, flags, monkeypatch, capsys
):
    find_spec = system.importlib.util.find_spec
    monkeypatch.setattr(
        system.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "psutil" else find_spec(name, *rest),
    )

    assert main(flags(tmp_path / "out", log_system=True)) == 1

    assert "pip install psutil" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
