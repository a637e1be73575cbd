"""TensorBoard's own EventFileWriter and EventAccumulator, without TensorFlow."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ("tensorboard",)
VARIANTS = {
    "tensorboard": "EventFileWriter, one event with four scalars a step (queue 10, flush 120 s)",
    "tensorboard-flush": "the same and `flush()` after each event",
}
LOG_FILES = ("events.out.tfevents.*",)
PROMISE = '`flush` makes sure that everything is "written to disk"; it does not sync'


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    """A resumed run writes a second file into the same folder."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    with closing(EventFileWriter(str(folder))) as writer:

        def log(step: int, values: dict[str, float]) -> None:
            scalars = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            summary = Summary(value=scalars)
            writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
            if variant == "tensorboard-flush":
                writer.flush()

        yield log


def read(folder: Path) -> Iterator[Value]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    for name in events.Tags()["scalars"]:
        yield from ((scalar.step, name, scalar.value) for scalar in events.Scalars(name))
