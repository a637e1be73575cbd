"""What `define_metric` says about a metric: its axis, unit, summary and direction."""

from dataclasses import dataclass
from typing import Any

from eventlog.format.foreign import is_a
from eventlog.format.record import text_of
from eventlog.tracker.values import shown

SUMMARIES = ("min", "max", "mean", "best", "last", "first", "copy", "none")
GOALS = ("minimize", "maximize")


@dataclass
class Metric:
    """The definition of one metric, or of all whose name matches a glob (`val/*`)."""

    name: str
    step_metric: Any = None
    step_sync: Any = None
    hidden: Any = None
    summary: Any = None
    goal: Any = None
    overwrite: Any = None
    unit: Any = None
    description: Any = None

    def fields(self) -> dict[str, Any]:
        """The fields of the event that defines it.

        Raises:
            ValueError: an argument that is impossible.
        """
        if not self.name:
            raise ValueError("name: must be the name of a metric or a glob such as 'val/*'")
        fields = {key: value for key, value in vars(self).items() if value is not None}
        for key in fields.keys() & {"step_sync", "hidden", "overwrite"}:
            if not is_a(fields[key], bool):
                raise ValueError(f"{key}={shown(fields[key])}: must be True or False")
        for key in fields.keys() & {"unit", "description", "step_metric"}:
            if not is_a(fields[key], str):
                raise ValueError(f"{key}={shown(fields[key])}: must be text")
        if "summary" in fields:
            fields["summary"] = _summaries(fields["summary"])
        if fields.get("goal", GOALS[0]) not in GOALS:
            raise ValueError(f"goal={shown(self.goal)}: must be one of {GOALS}")
        return fields


def metric(name: Any, step_metric: Any = None, **fields: Any) -> Metric:
    """A definition as `define_metric` gets it: an axis may be a definition itself."""
    axis = step_metric.name if is_a(step_metric, Metric) else step_metric
    return Metric(text_of(name), axis, **fields)


def _summaries(summary: Any) -> list[str]:
    """`"min,max"`, or a list of texts, as a list."""
    parts = summary.split(",") if is_a(summary, str) else summary
    names = [text_of(part).strip() for part in parts] if is_a(parts, list | tuple) else []
    if not names or not set(names) <= set(SUMMARIES):
        raise ValueError(f"summary={shown(summary)}: must be some of {SUMMARIES}, joined by commas")
    return names
