"""TensorBoard: all event files in a folder are a run; in a folder of such folders each is one.

Every scalar and text is imported with its step and wall time, HParams become the configuration.
Points that a restarted run superseded are left out, as TensorBoard does not show them, and so is
what plugins hold (images, histograms, ...). A damaged record is skipped and reported, where
TensorBoard stops reading.
"""

import math
import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.formats import iso
from ...core.library import need
from .metrics import Metrics
from .source import LossNames, Source, SourceRun

MARK = "tfevents"
FRAME_BYTES = 8 + 4 + 4  # length, its checksum, the data's checksum


def find(path: Path) -> list[Source]:
    """The runs in a file or folder."""
    files = [path] if path.is_file() and MARK in path.name else sorted(path.rglob(f"*{MARK}*"))
    runs: dict[Path, list[Path]] = {}
    for file in filter(Path.is_file, files):
        runs.setdefault(file.parent, []).append(file)
    return [Source(files, _name(folder, path), folder) for folder, files in runs.items()]


def _name(folder: Path, path: Path) -> str:
    if path.is_dir() and folder != path:
        return "_".join((path.resolve().name, *folder.relative_to(path).parts))
    return folder.resolve().name


def read(source: Source, loss_names: LossNames) -> SourceRun:
    need("tensorboard.compat.proto.event_pb2", "tensorboard")
    run = SourceRun(source.name, source.files, key=str(source.place.resolve()))
    metrics, others = Metrics(), Counter[str]()
    times, n_purged = [], 0
    for file in source.files:
        for event in _events(file, run.unreadable):
            times.append(event.wall_time)
            if event.HasField("session_log") and event.session_log.status == 1:
                n_purged += metrics.purge(event.step)  # START: as TensorBoard does
            for value in event.summary.value:
                number = _value(value)
                if number is not None:
                    metrics.add(event.step, {value.tag: number}, event.wall_time)
                elif not _read_settings(value, run):
                    others[value.metadata.plugin_data.plugin_name or value.tag] += 1
    metrics.into(run, loss_names)
    if times:
        run.started, run.ended = iso(min(times)), iso(max(times))
    if n_purged:
        run.left_out.append(f"{n_purged:,} values that a restart superseded")
    run.left_out += [f"{n:,} values of {kind!r}: not scalars" for kind, n in others.items()]
    return run


def _events(file: Path, unreadable: list[str]) -> Iterator[Any]:
    """The intact events of a file; damaged ones are added to `unreadable`."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    if not file.stat().st_size:
        return
    with open(file, "rb") as opened:
        data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    at = 0
    while len(data) - at >= FRAME_BYTES:
        (length,) = struct.unpack_from("<Q", data, at)
        (check,) = struct.unpack_from("<I", data, at + 8)
        if masked_crc32c(bytes(data[at : at + 8])) != check or at + FRAME_BYTES + length > len(
            data
        ):
            break
        body = bytes(data[at + 12 : at + 12 + length])
        (check,) = struct.unpack_from("<I", data, at + 12 + length)
        try:
            if masked_crc32c(body) != check:
                raise DecodeError
            yield Event.FromString(body)
        except DecodeError:
            unreadable.append(f"{file}: a damaged record of {length:,} bytes at byte {at:,}")
        at += FRAME_BYTES + length
    if at < len(data):
        unreadable.append(f"{file}: {len(data) - at:,} bytes from byte {at:,} on, torn or damaged")


def _value(value: Any) -> float | int | str | None:
    """A scalar or a text; None of anything else."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    plugin = value.metadata.plugin_data.plugin_name
    if not value.HasField("tensor") or plugin not in ("", "scalars", "text"):
        return None
    # One number may stand for any shape, which would become an array of terabytes.
    if math.prod(dim.size for dim in value.tensor.tensor_shape.dim) != 1:
        return None
    if value.tensor.string_val:
        return bytes(value.tensor.string_val[0]).decode(errors="backslashreplace")
    from tensorboard.util.tensor_util import make_ndarray

    try:
        array = make_ndarray(value.tensor)
    except (TypeError, ValueError):  # of a type that numpy does not have, or too short
        return None
    is_scalar = array.size == 1 and array.dtype.kind in "fiu"
    return array.item() if is_scalar else None


def _read_settings(value: Any, run: SourceRun) -> bool:
    """Whether the value belongs to HParams; the configuration and status are read from it."""
    if value.metadata.plugin_data.plugin_name != "hparams":
        return False
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    except DecodeError:
        return False
    for key, setting in data.session_start_info.hparams.items():
        run.config[key] = getattr(setting, setting.WhichOneof("kind") or "string_value")
    if data.HasField("session_end_info"):
        failed = data.session_end_info.status == 2  # api.proto: STATUS_FAILURE
        run.status, run.reason = ("failed" if failed else "completed"), None
    return True
