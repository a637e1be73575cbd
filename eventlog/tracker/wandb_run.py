"""What scripts for W&B read and call of a run, with the values that are true without a server.

Each name of W&B's `Run` is here or in `ActiveRun`, with its signature and the type of its result.
What needs the server does nothing, and that is reported once on stderr.
"""

import glob
import os
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from eventlog.disk import DISK
from eventlog.format.files import files_folder
from eventlog.format.foreign import is_a
from eventlog.format.record import text_of
from eventlog.interruption import ignoring
from eventlog.tracker.media import Artifact
from eventlog.tracker.notices import notice_once
from eventlog.tracker.session import Session


def does_nothing(name: str, why: str = "there is no server") -> None:
    """Report once that a call had no effect."""
    notice_once(f"{name}: does nothing: {why}")


class Settings:
    """Settings of W&B by any name; one that was not passed is None."""

    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class WandbRun:
    """The names of W&B's `Run` that logging does not need."""

    session: Session | None
    id: str
    step: int
    disabled: bool
    metadata: dict[str, Any]
    """The run's metadata: `project`, `group` and others."""
    start_time: float
    """When the run began, in seconds since 1970; of a resumed run, its first session."""
    starting_step: int
    """The step at which this session began."""
    sweep_id = None
    sweep_url = None
    _folder: str | None = None

    @property
    def name(self) -> str:
        raise NotImplementedError

    # ---- where it is

    @property
    def url(self) -> str | None:
        """The journal as a `file:` URL; None for a run that is not logged."""
        return self.session.journal_path.as_uri() if self.session else None

    @property
    def project_url(self) -> str | None:
        return self.session.journal_path.parent.as_uri() if self.session else None

    def get_url(self) -> str | None:
        return self.url

    def get_project_url(self) -> str | None:
        return self.project_url

    @property
    def path(self) -> str:
        """`entity/project/id`, or `project/id`."""
        return "/".join(filter(None, (self.entity, self.project, self.id)))

    @property
    def dir(self) -> str:
        """The run's own folder for files, beside the journal; reading this makes it."""
        import tempfile  # takes milliseconds, as all that is imported in a function here

        folder = files_folder(self.session.journal_path) if self.session else None
        with ignoring(OSError):
            if folder is not None:
                DISK.make_folder(folder)
                return str(folder)
            self._folder = self._folder or tempfile.mkdtemp(prefix="eventlog-")
        return self._folder or str(folder or tempfile.gettempdir())

    @property
    def sync_dir(self) -> str:
        return self.dir

    # ---- what it is

    @property
    def entity(self) -> str:
        return self._about("entity")

    @property
    def project(self) -> str:
        return self._about("project") or "uncategorized"

    @property
    def group(self) -> str:
        return self._about("group")

    @property
    def job_type(self) -> str:
        return self._about("job_type")

    def project_name(self) -> str:
        return self.project

    def _about(self, name: str) -> str:
        value = self.metadata.get(name)
        return "" if value is None else text_of(value)

    @property
    def mode(self) -> str:
        return "disabled" if self.disabled else "offline"

    @property
    def offline(self) -> bool:
        return not self.disabled

    @property
    def settings(self) -> Settings:
        return Settings(
            mode=self.mode, entity=self.entity, project=self.project, run_id=self.id,
            run_name=self.name, run_group=self.group, run_job_type=self.job_type,
            disabled=self.disabled, _offline=self.offline,
        )  # fmt: skip

    def status(self) -> Any:
        return SimpleNamespace(sync_items_total=0, sync_items_pending=0, sync_time=None)

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """A link to the journal."""
        import html

        return f'<a href="{html.escape(self.url or "")}">{html.escape(self.name)}</a>'

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        return False

    # ---- files

    def save(
        self, glob_str: Any = None, base_path: Any = None, policy: str = "live", glob: bool = True
    ) -> list[str]:
        """The paths of the files that a glob names. They stay where they are."""
        does_nothing("save", "files stay where they are; `run.dir` is the run's folder for files")
        return _matching(glob_str, is_glob=glob)

    def restore(
        self, name: Any, run_path: Any = None, replace: bool = False, root: Any = None
    ) -> IO[str] | None:
        """A file of `root`, or else of `run.dir`, opened to be read; None if it is not there."""
        with ignoring(OSError, ValueError, TypeError):
            if root is None and self.session is not None:
                root = self.dir
            return open(Path(root or self._folder or ".") / name, encoding="utf-8")
        notice_once(f"restore: {text_of(name)}: is not in the run's folder; None is returned")
        return None

    # ---- artifacts and models

    def log_artifact(self, artifact_or_path: Any, name: Any = None, *args: Any, **more: Any) -> Any:
        does_nothing("log_artifact", "files stay where they are; `log_checkpoint` notes a path")
        return _as_artifact(artifact_or_path, name)

    def upsert_artifact(self, artifact_or_path: Any, name: Any = None, *args: Any, **_: Any) -> Any:
        return self.log_artifact(artifact_or_path, name)

    def finish_artifact(self, artifact_or_path: Any, name: Any = None, *args: Any, **_: Any) -> Any:
        return self.log_artifact(artifact_or_path, name)

    def use_artifact(self, artifact_or_name: Any, *args: Any, **more: Any) -> Any:
        does_nothing("use_artifact", "there is no server that has files; the artifact is empty")
        return _as_artifact(artifact_or_name, None)

    def link_artifact(self, artifact: Any, target_path: Any = None, *args: Any, **_: Any) -> Any:
        does_nothing("link_artifact")
        return artifact

    def log_model(self, path: Any, name: Any = None, aliases: Any = None) -> None:
        does_nothing("log_model", "files stay where they are; `log_checkpoint` notes a path")

    def use_model(self, name: Any) -> str:
        does_nothing("use_model", "there is no server that has files; the path may not exist")
        return _as_artifact(name, None).download()

    def link_model(self, path: Any, registered_model_name: Any = "", *_: Any, **more: Any) -> None:
        does_nothing("link_model")

    # ---- what has no use here

    def log_code(self, root: Any = ".", *args: Any, **more: Any) -> None:
        does_nothing("log_code", "the git commit and the command line are in the run already")

    def watch(self, models: Any = None, *args: Any, **more: Any) -> None:
        does_nothing("watch", "gradients are not logged; log what you want to see")

    def unwatch(self, models: Any = None) -> None:
        pass

    def mark_preempting(self) -> None:
        does_nothing("mark_preempting", "what was logged survives the end of the process")

    def pin_config_keys(self, keys: Any = ()) -> None:
        does_nothing("pin_config_keys")


def _as_artifact(source: Any, name: Any) -> Artifact:
    if is_a(source, Artifact):
        return source  # type: ignore[no-any-return]
    return Artifact(text_of(source) if name is None else name)


def _matching(pattern: Any, *, is_glob: bool) -> list[str]:
    if pattern is None:
        return []
    with ignoring(Exception):  # an `__fspath__` that raises
        path = os.fsdecode(pattern)
        paths = glob.glob(path) if is_glob else [path] * os.path.exists(path)
        return [os.path.abspath(name) for name in paths]
    return []
