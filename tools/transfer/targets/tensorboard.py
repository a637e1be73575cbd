"""TensorBoard: one event file in a folder of the run's name.

The tags of the trainer's losses are the guide's: Loss/train, Loss/val, MFU; all other series have
their own names. TensorBoard stores numbers as float32; steps, times, NaN and infinities are
preserved. Words are TensorBoard's texts, under NAME/text_summary, as PyTorch's writer names them.
Configuration and metadata are HParams, and complete as text.

The bytes of the file depend on the run alone. Exporting again appends what is new, so that an open
TensorBoard sees a live run grow; a file that a crash cut off is continued at its last byte. When a
resumed run superseded points, the file is replaced: no superseded point stays.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from eventlog import seconds

from ...core.history import History, Names
from ...core.library import need
from .files import grow, run_folder
from .outcome import Outcome

TAGS: Names = {
    ("iterations", "loss"): "Loss/train",
    ("iterations", "mfu"): "MFU",
    ("evals", "train_loss"): "Loss/train_eval",
    ("evals", "val_loss"): "Loss/val",
}


TEXT_SUFFIX = "/text_summary"


def export(history: History, out: Path) -> Outcome:
    need("tensorboard.compat.proto.event_pb2", "tensorboard")
    folder = run_folder(history, out)
    started_s = seconds(history.run.start_time) or 0.0
    path = folder / f"events.out.tfevents.{int(started_s)}.runjournal"
    state, n_added = grow(path, lambda: map(_framed, _events(history, started_s)))
    return Outcome(str(path), state, n_added)


def _events(history: History, started_s: float) -> Iterator[Any]:
    """The events of the file in order; the end of the run only if it has ended."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    yield Event(wall_time=started_s, file_version="brain.Event:2")
    settings = history.settings() | {f"metadata.{k}": v for k, v in history.facts().items()}
    session = hparams_pb(_hparams(settings), trial_id=history.id, start_time_secs=started_s)
    yield Event(wall_time=started_s, summary=_deterministic(session))
    for name, values in (("config", history.run.config), ("metadata", history.run.metadata)):
        text = f"```\n{orjson.dumps(values, option=orjson.OPT_INDENT_2, default=str).decode()}\n```"
        yield Event(wall_time=started_s, summary=text_pb(name, text))
    for point in history.points(TAGS):
        scalars = [Summary.Value(tag=tag, simple_value=v) for tag, v in point.values.items()]
        texts = [
            text_pb(f"{tag}{TEXT_SUFFIX}", words).value[0] for tag, words in point.words.items()
        ]
        summary = Summary(value=scalars + texts)
        yield Event(wall_time=point.time_s, step=point.step, summary=summary)
    ended_s = seconds(history.run.end_time)
    if history.run.status in ("completed", "failed") and ended_s is not None:
        yield Event(wall_time=ended_s, summary=_end(history.run.status, ended_s))


def _end(status: str, ended_s: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = api_pb2.STATUS_SUCCESS if status == "completed" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=ended_s)
    plugin_data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    about = metadata.create_summary_metadata(plugin_data)
    tag, tensor = metadata.SESSION_END_INFO_TAG, metadata.NULL_TENSOR
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=tensor)])


def _hparams(settings: dict[str, Any]) -> dict[str, Any]:
    """HParams can store numbers, booleans and text."""
    known = (bool, int, float, str)
    return {k: v if isinstance(v, known) else str(v) for k, v in sorted(settings.items())}


def _deterministic(summary: Any) -> Any:
    """The summary with its map in a fixed order, so that its bytes are always the same."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = summary.value[0].metadata.plugin_data
    parsed = HParamsPluginData.FromString(data.content)
    data.content = parsed.SerializeToString(deterministic=True)
    return summary


def _framed(event: Any) -> bytes:
    """A TFRecord: length, its checksum, the event, its checksum."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    data = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return b"".join((length, checks[0], data, checks[1]))
