"""TensorBoard: a folder of event files is a run; in a folder of such folders each is one.

Every scalar is imported with its step and wall time, HParams become the configuration. Points that
a restarted run superseded are left out, as TensorBoard does not show them. A damaged record is
skipped and reported, where TensorBoard stops reading.
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
from .source_run import LossNames, Metrics, SourceRun

MARK = "tfevents"
FRAME_BYTES = 8 + 4 + 4  # length, its checksum, the data's checksum


def fits(path: Path) -> bool:
    return MARK in path.name if path.is_file() else bool(next(path.rglob(f"*{MARK}*"), None))


def read(path: Path, loss_names: LossNames) -> Iterator[SourceRun]:
    need("tensorboard.compat.proto.event_pb2", "tensorboard")
    files = [path] if path.is_file() else sorted(filter(Path.is_file, path.rglob(f"*{MARK}*")))
    for folder in dict.fromkeys(file.parent for file in files):
        yield _run(folder, [file for file in files if file.parent == folder], path, loss_names)


def _run(folder: Path, files: list[Path], path: Path, loss_names: LossNames) -> SourceRun:
    name = folder.resolve().name
    if path.is_dir() and folder != path:
        name = "_".join((path.resolve().name, *folder.relative_to(path).parts))
    run = SourceRun(name, files)
    metrics, others = Metrics(), Counter[str]()
    times = []
    for file in files:
        for event in _events(file, run.left_out):
            times.append(event.wall_time)
            if event.HasField("session_log") and event.session_log.status == 1:
                metrics.purge(event.step)  # START: TensorBoard drops everything from this step on
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    metrics.add(event.step, {value.tag: number}, event.wall_time)
                elif not _take_settings(value, run):
                    others[value.metadata.plugin_data.plugin_name or value.tag] += 1
    run.events = list(metrics.events(loss_names))
    if times:
        run.started, run.ended = iso(min(times)), iso(max(times))
    if metrics.n_superseded:
        run.left_out.append(f"{metrics.n_superseded:,} points that were logged again later")
    run.left_out += [f"{n:,} values of {kind!r}: not scalars" for kind, n in others.items()]
    if metrics.is_without_loss(loss_names):
        run.left_out.append(
            "which tag is the training loss is unknown; name it with --loss: "
            + ", ".join(sorted(metrics.names()))
        )
    return run


def _events(file: Path, left_out: list[str]) -> Iterator[Any]:
    """The intact events of a file; damaged ones are added to `left_out`."""
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
            left_out.append(f"{file}: a damaged record of {length:,} bytes at byte {at:,}")
        at += FRAME_BYTES + length
    if at < len(data):
        left_out.append(f"{file}: {len(data) - at:,} bytes from byte {at:,} on, torn or damaged")


def _scalar(value: Any) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    plugin = value.metadata.plugin_data.plugin_name
    if value.HasField("tensor") and plugin in ("", "scalars") and not value.tensor.string_val:
        from tensorboard.util.tensor_util import make_ndarray

        # One number may stand for any shape, which would become an array of terabytes.
        if math.prod(dim.size for dim in value.tensor.tensor_shape.dim) != 1:
            return None
        try:
            array = make_ndarray(value.tensor)
        except (TypeError, ValueError):  # of a type that numpy does not have, or too short
            return None
        return float(array.item()) if array.size == 1 and array.dtype.kind in "fiu" else None
    return None


def _take_settings(value: Any, run: SourceRun) -> bool:
    """Whether the value belongs to HParams; takes the configuration and status from it."""
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
