"""The arguments of `init`: each as passed, or from `settings`, or from the environment."""

import os
from collections.abc import Mapping
from typing import Any

from eventlog.format.record import text_of
from eventlog.interruption import is_interruption
from eventlog.tracker.notices import is_set, notice_once
from eventlog.tracker.resume import Resume
from eventlog.tracker.values import as_dict, as_tags, as_text, is_true, shown
from eventlog.write.messages import say_once

_SETTINGS = {
    "id": "run_id",
    "name": "run_name",
    "group": "run_group",
    "job_type": "run_job_type",
    "notes": "run_notes",
    "tags": "run_tags",
    "dir": "root_dir",
}
"""Fields of W&B's `Settings` that are arguments of `init` by another name."""

_VARIABLES = {
    "project": ("EVENTLOG_PROJECT", "WANDB_PROJECT"),
    "entity": ("EVENTLOG_ENTITY", "WANDB_ENTITY"),
    "name": ("EVENTLOG_NAME", "WANDB_NAME"),
    "group": ("EVENTLOG_GROUP", "WANDB_RUN_GROUP"),
    "job_type": ("EVENTLOG_JOB_TYPE", "WANDB_JOB_TYPE"),
    "notes": ("EVENTLOG_NOTES", "WANDB_NOTES"),
    "tags": ("EVENTLOG_TAGS", "WANDB_TAGS"),
    "id": ("EVENTLOG_RUN_ID", "WANDB_RUN_ID"),
    "resume": ("EVENTLOG_RESUME", "WANDB_RESUME"),
    "mode": ("EVENTLOG_MODE", "WANDB_MODE"),
    "dir": ("EVENTLOG_DIR", "WANDB_DIR"),
}
"""The environment variables of an argument; the first that is set counts."""

_OF_SETTINGS = {*_VARIABLES, "reinit", "quiet", "silent"}
_NEEDLESS = {"allow_val_change", "anonymous", "force"}  # what they ask for is so anyway


class Arguments:
    """What was passed to `init`, by name; None or an empty text: not passed."""

    def __init__(self, passed: Mapping[str, Any], settings: Any) -> None:
        self.passed = passed
        names = {setting: name for name, setting in _SETTINGS.items()}
        by_setting = {names.get(key, key): value for key, value in as_dict(settings).items()}
        self._settings = {k: v for k, v in by_setting.items() if k in _OF_SETTINGS}
        report_unsupported(
            "settings: ", {k: v for k, v in by_setting.items() if k not in _OF_SETTINGS}
        )

    def value(self, name: str) -> Any:
        """An argument as it was passed or set, or the text of a variable; None: it is nowhere."""
        for value in (self.passed.get(name), self._settings.get(name)):
            if as_text(value) is not None:
                return value
        for variable in _VARIABLES.get(name, ()):
            if os.environ.get(variable):
                return os.environ[variable]
        return None

    def text(self, name: str) -> str | None:
        return as_text(self.value(name))

    def metadata(self) -> dict[str, str]:
        texts = {name: self.text(name) for name in ("project", "entity", "group", "job_type")}
        return {name: text for name, text in texts.items() if text is not None}

    def config(self) -> dict[str, Any]:
        """The config, without the names to exclude, and only those to include if there are any."""
        values = as_dict(self.passed.get("config"))
        excluded, included = map(self._names, ("config_exclude_keys", "config_include_keys"))
        return {
            name: value
            for name, value in values.items()
            if name not in excluded and (not included or name in included)
        }

    def _names(self, argument: str) -> set[str]:
        value = self.passed.get(argument)
        try:
            return set(as_tags(value))
        except Exception as error:  # no list, or one whose class raises
            if is_interruption(error):
                raise
            say_once(f"init: {argument}={shown(value)}: must be a list of names; ignored")
            return set()

    def is_disabled(self) -> bool:
        """Whether nothing is to be logged."""
        mode = self.text("mode")
        if mode not in (None, "offline", "disabled"):
            notice_once(f"mode={mode!r}: works as 'offline': nothing is sent")
        is_ours = self.passed.get("mode") is not None or os.environ.get("EVENTLOG_MODE")
        return mode == "disabled" or (not is_ours and is_set("WANDB_DISABLED"))

    def is_quiet(self) -> bool:
        values = (self.passed.get("quiet"), *map(self._settings.get, ("quiet", "silent")))
        return any(map(is_true, values))

    def resume(self, rewind_to: int | None) -> Resume | None:
        """Which run is resumed.

        Raises:
            ValueError: an unknown word, or a `rewind_to` that is no step.
        """
        if rewind_to is not None:
            if type(rewind_to) is not int or not 0 <= rewind_to < 1 << 63:
                message = f"rewind_to={shown(rewind_to)}: must be a step, a whole number >= 0"
                raise ValueError(message)
            return "must"
        resume = self.value("resume")
        text = "" if resume is None else text_of(resume)
        if text in ("", "False", "false"):
            return None
        if text in ("True", "auto", "true"):
            return "auto"
        if text not in ("allow", "must", "never"):
            raise ValueError(f"resume={shown(resume)}: must be 'allow', 'must', 'never' or 'auto'")
        return text  # type: ignore[return-value]


def report_unsupported(what: str, values: Mapping[str, Any]) -> None:
    """Report once the arguments that have no effect and that asked for one."""
    names = {name for name, value in values.items() if value is not None and value is not False}
    if names - _NEEDLESS:
        say_once(f"init: {what}{', '.join(sorted(names - _NEEDLESS))}: not supported, ignored")
