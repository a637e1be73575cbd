"""Every state of the disk that a power loss may leave, from the calls that a writer made.

`TracingDisk` is the real disk with a list of the calls that change it. `World` replays
them as a journaling file system keeps them: what was synced is there; of the rest each
block may be new, old, or zeros if the file had none there; the file may have any of the
sizes that it had meanwhile; a name that no folder sync covered may be there or not, each
rename whole or not at all. After a failed sync the kernel marks the pages clean: no later
sync writes what it dropped.
"""

import errno
import itertools
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from eventlog.disk import Disk

BLOCK_BYTES = 128  # a real one has 512 or 4096; smaller tears a line into more pieces

Op = tuple[Any, ...]
State = dict[str, bytes]
"""The files that are there after a power loss, by their path below the root."""


class File:
    """One file: its bytes as programs see them, and all that may be on the disk instead."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self._sizes = [len(data)]  # it may have any of these; the last is the one programs see
        self._blocks: dict[int, list[bytes]] = {}  # unsettled ones, in every version since
        self._dirty: set[int] = set()
        self._begun: tuple[int, dict[int, int]] = (0, {})
        self._states: list[bytes] | None = None

    def write(self, data: bytes) -> None:
        begin, end = len(self.data), len(self.data) + len(data)
        self._change(begin, end, lambda: self.data.extend(data))
        boundaries = range((begin // BLOCK_BYTES + 1) * BLOCK_BYTES, end, BLOCK_BYTES)
        self._sizes += [*boundaries, end - 1, end]

    def truncate(self, size: int) -> None:
        if size != len(self.data):
            self._change(size, len(self.data), lambda: self.data.__delitem__(slice(size, None)))
            self._sizes.append(size)

    def begin_sync(self) -> None:
        versions = {i: len(self._blocks[i]) - 1 for i in self._dirty}
        self._begun = (len(self._sizes) - 1, versions)
        self._dirty.clear()

    def end_sync(self, *, failed: bool = False) -> None:
        """What was written before `begin_sync` is on the disk; failed: that is unknown."""
        if failed:
            return
        self._states = None
        size, versions = self._begun
        del self._sizes[:size]
        for i, version in versions.items():
            del self._blocks[i][:version]
            if len(self._blocks[i]) == 1:
                del self._blocks[i]

    def states(self, limit: int, rng: random.Random) -> list[bytes]:
        """What its bytes may be after a power loss: all of it, or `limit` of very many.

        The first is what programs see.
        """
        if self._states is None:
            self._states = list(dict.fromkeys(self._draw(limit, rng)))[:limit]
        return self._states

    def _draw(self, limit: int, rng: random.Random) -> Iterator[bytes]:
        yield bytes(self.data)
        sizes = list(dict.fromkeys(reversed(self._sizes)))
        old = {i: versions[0] for i, versions in self._blocks.items()}
        if len(sizes) * math.prod(map(len, self._blocks.values())) <= limit:
            for size, *blocks in itertools.product(sizes, *self._blocks.values()):
                yield self._build(size, dict(zip(self._blocks, blocks, strict=True)))
            return
        for size in sizes:  # first what file systems are known to leave: cut tails, zeros, holes
            yield self._build(size, {})
            yield self._build(size, old)
        for i in self._blocks:
            yield self._build(sizes[0], {i: old[i]})
            yield self._build(sizes[0], {k: v for k, v in old.items() if k != i})
        for _ in range(4 * limit):
            mixed = {i: rng.choice(versions) for i, versions in self._blocks.items()}
            yield self._build(rng.choice(sizes), mixed)

    def _build(self, size: int, blocks: dict[int, bytes]) -> bytes:
        data = bytearray(self.data[:size].ljust(size, b"\0"))
        for i, block in blocks.items():
            begin = i * BLOCK_BYTES
            data[begin : begin + BLOCK_BYTES] = block[: max(0, size - begin)]
        return bytes(data[:size])

    def _change(self, begin: int, end: int, change: Callable[[], object]) -> None:
        self._states = None
        touched = range(begin // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        for i in touched:
            self._blocks.setdefault(i, [self._block(i)])
        change()
        for i in touched:
            self._blocks[i].append(self._block(i))
        self._dirty.update(touched)

    def _block(self, i: int) -> bytes:
        return bytes(self.data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES]).ljust(BLOCK_BYTES, b"\0")


class LinkTo(bytes):
    """The content of a symbolic link in a `State`: its target."""


class Link:
    """A symbolic link: there or not, never half."""

    def __init__(self, target: bytes) -> None:
        self._states: list[bytes] = [LinkTo(target)]

    def states(self, limit: int, rng: random.Random) -> list[bytes]:
        return self._states


class Folder:
    """The names in one folder; any that no sync covered may be there or not."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self._settled: dict[str, Node] = {}
        self._changes: list[tuple[str | None, str | None, Node | None]] = []

    def change(self, gone: str | None, come: str | None, node: "Node | None") -> None:
        self._changes.append((gone, come, node))
        self._apply(self.names, gone, come, node)

    def sync(self) -> None:
        self._settled = dict(self.names)
        self._changes.clear()

    def states(self) -> list[dict[str, "Node"]]:
        """Which names there may be after a power loss; the first is what programs see."""
        states = {}
        for choice in itertools.product((True, False), repeat=min(len(self._changes), 5)):
            names = dict(self._settled)
            early = len(self._changes) - len(choice)  # of very many the older ones all stand
            for change in (
                *self._changes[:early],
                *itertools.compress(self._changes[early:], choice),
            ):
                self._apply(names, *change)
            states[tuple(sorted((name, id(node)) for name, node in names.items()))] = names
        return list(states.values())

    @staticmethod
    def _apply(names, gone, come, node) -> None:
        if gone is not None:
            names.pop(gone, None)
        if come is not None:
            names[come] = node


Node: TypeAlias = File | Folder | Link


class World:
    """A folder tree as a file system keeps it, built from a trace of calls."""

    def __init__(self) -> None:
        self.root = Folder()
        self._files: dict[int, File] = {}

    def apply(self, op: Op) -> None:
        match op:
            case "create", number, path:
                folder, name = self._place(path)
                folder.change(None, name, self._files.setdefault(number, File()))
            case "write", number, data:
                self._files[number].write(data)
            case "truncate", number, size:
                self._files[number].truncate(size)
            case "sync begins", number:
                self._files[number].begin_sync()
            case "sync ends", number:
                self._files[number].end_sync()
            case "sync fails", number:
                self._files[number].end_sync(failed=True)
            case "sync folder", path, within:
                for folder in within:
                    self._folder(folder)
                self._folder(path).sync()
            case "rename", source, target:
                folder, name = self._place(source)
                node = folder.names[name]
                folder.change(name, self._place(target)[1], node)
            case "unlink", path:
                folder, name = self._place(path)
                folder.change(name, None, None)
            case "link", path, target:
                folder, name = self._place(path)
                folder.change(None, name, Link(target.encode()))
            case "move", pairs:
                self._move(pairs)
            case "folder", path:  # it was there before the story began
                self._folder(path)
                self.root.sync()
            case "power loss", state, numbers:
                self._begin_with(state, numbers)

    def states(
        self, limit: int, rng: random.Random, *, limit_of_a_file: int = 200
    ) -> Iterator[State]:
        """What may be there after a power loss now: all of it, or `limit` of very many.

        The first is what programs see.
        """
        layouts = [
            [(path, file.states(limit_of_a_file, rng)) for path, file in layout]
            for layout in self._layouts(self.root)
        ]
        n_states = [math.prod(len(states) for _, states in layout) for layout in layouts]
        if sum(n_states) <= limit:
            for layout in layouts:
                for datas in itertools.product(*(states for _, states in layout)):
                    yield {path: data for (path, _), data in zip(layout, datas, strict=True)}
            return
        yield {path: states[0] for path, states in layouts[0]}
        for _ in range(limit - 1):
            (layout,) = rng.choices(layouts, n_states if rng.random() < 0.5 else None)
            yield {path: rng.choice(states) for path, states in layout}

    def _move(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Rename the files of a run and sync that: no state has half of it."""
        for source, target in pairs:
            folder, name = self._place(source)
            folder.change(name, self._place(target)[1], folder.names[name])
        for folder in {id(found): found for found, _ in map(self._place, dict(pairs))}.values():
            folder.sync()

    def _layouts(self, folder: Folder, under: str = "") -> Iterator[list[tuple[str, File | Link]]]:
        """The ways in which names may be there, each with the files that they name."""
        for names in folder.states():
            parts = [
                [[(under + name, node)]]
                if not isinstance(node, Folder)
                else list(self._layouts(node, f"{under}{name}/"))
                for name, node in names.items()
            ]
            for layout in itertools.product(*parts):
                yield [entry for part in layout for entry in part]

    def _begin_with(self, state: State, numbers: dict[str, int]) -> None:
        """After a restart: only `state` is on the disk."""
        folders = [name for name, node in self.root.names.items() if isinstance(node, Folder)]
        self.root, self._files = Folder(), {}
        for name in folders:
            self._folder(name)
        for path, data in state.items():
            folder, name = self._place(path)
            if isinstance(data, LinkTo):
                folder.names[name] = Link(data)
            else:
                folder.names[name] = self._files[numbers[path]] = File(data)
            folder.sync()
        self.root.sync()

    def _place(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        return self._folder(folder), name

    def _folder(self, path: str) -> Folder:
        if path in ("", "."):
            return self.root
        folder = self.root.names.get(path)
        if folder is None:
            folder = Folder()
            self.root.change(None, path, folder)
        assert isinstance(folder, Folder)
        return folder


class TracingDisk(Disk):
    """The real disk below `root`, with a trace of the calls, and with faults.

    `refuse(operation, file name)` returns None (do it), an errno (raise it), or for a write
    the fraction of the bytes to write. `full` are folders whose disk has no space: a file there
    takes what was reserved for it and no more. `before(op)` is called before each change,
    `meanwhile` during a sync.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trace: list[Op] = []
        self.before: Callable[[], object] = lambda: None
        self.meanwhile: Callable[[], object] | None = None
        self.refuse: Callable[[str, str], int | float | None] = lambda operation, name: None
        self.full: frozenset[Path] = frozenset()
        self.can_reserve = True
        self.network = False
        """Whether it says of itself that several machines write to it."""
        self.repeated_syncs = 0
        """Syncs that a session asked of a file after one of its syncs had failed."""
        self._numbers: dict[str, int] = {}
        self._open: dict[int, tuple[int, str]] = {}
        self._failed: set[int] = set()
        self._owed: dict[int, int] = {}
        self._reserved: dict[int, int] = {}
        self._unheard: set[int] = set()
        self._next = itertools.count()

    def open_append(self, path, *, exclusive=False):
        self._ask("open", path)
        name, is_new = self._name(path), not os.path.exists(path)
        fd = super().open_append(path, exclusive=exclusive)
        self._failed.discard(self._numbers.get(name, -1))  # a session of its own
        return self._opened(fd, name, is_new)

    def open_new(self, path):
        self._ask("create", path)
        fd = super().open_new(path)
        return self._opened(fd, self._name(path), is_new=True)

    def write(self, fd, data):
        part = self._ask("write", self._open[fd][1])
        data = bytes(data)
        if part is not None:
            data = data[: int(len(data) * part)]
        data = data[: self._free_bytes(fd)]
        if data:
            self._note("write", self._open[fd][0], data)
            super().write(fd, data)
        return len(data)

    def sync_data(self, fd):
        is_ours = fd in self._open
        if is_ours:
            number, name = self._open[fd]
            self.repeated_syncs += number in self._failed
        else:  # a reader's own descriptor
            name = self._name(os.readlink(f"/proc/self/fd/{fd}"))
            number = self._numbers[name]
        self._note("sync begins", number)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        try:
            if fd in self._owed:
                self._unheard.discard(number)
                raise OSError(self._owed.pop(fd), "told to each who has the file open")
            self._ask("sync", name)
        except OSError as error:
            self._note("sync fails", number)
            if is_ours:
                self._failed.add(number)
            else:  # the kernel tells the writer as well, when it asks the next time
                others = [fd for fd, (other, _) in self._open.items() if other == number]
                self._owed |= dict.fromkeys(others, error.errno)
                self._unheard.add(number)
            raise
        self._note("sync ends", number)

    @property
    def owes_an_error(self) -> bool:
        """Whether a sync failed for a reader only: the writer did not learn of it, or had died."""
        return bool(self._unheard)

    def sync_dir(self, directory):
        self._ask("sync_dir", directory)
        within = [self._name(path) for path in Path(directory).iterdir() if path.is_dir()]
        self._note("sync folder", self._name(directory), within)

    def truncate(self, fd, size_bytes):
        self._ask("truncate", self._open[fd][1])
        self._note("truncate", self._open[fd][0], size_bytes)
        self._reserved.pop(self._open[fd][0], None)
        super().truncate(fd, size_bytes)

    def reserve(self, fd, offset, size_bytes):
        number, name = self._open[fd]
        self._ask("reserve", name)
        if not self.can_reserve:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if self._is_full(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reserved[number] = offset + size_bytes

    def link(self, path, target):
        self._note("link", self._name(path), str(target))
        self._numbers[self._name(path)] = next(self._next)
        super().link(path, target)

    def replace(self, source, target):
        self._ask("replace", target)
        self._note("rename", self._name(source), self._name(target))
        self._numbers[self._name(target)] = self._numbers.pop(self._name(source))
        super().replace(source, target)

    def unlink(self, path):
        self._ask("unlink", path)
        self._note("unlink", self._name(path))
        del self._numbers[self._name(path)]
        super().unlink(path)

    def is_network(self, path):
        return self.network

    def close(self, fd):
        del self._open[fd]
        self._owed.pop(fd, None)
        super().close(fd)

    # ---- what others do to the files

    def put_file(self, path: Path, data: bytes) -> None:
        """Another program puts a file at `path`, by a rename after a sync of its bytes."""
        name, number = self._name(path), next(self._next)
        new = f"{name}.new"
        self._note("create", number, new)
        (self.root / new).write_bytes(data)
        self._numbers[new] = number
        self._note("write", number, data)
        self._note("sync begins", number)
        self._note("sync ends", number)
        self._note("rename", new, name)
        os.replace(self.root / new, path)
        self._numbers[name] = self._numbers.pop(new)

    def take_file(self, path: Path) -> None:
        """Another program deletes a file."""
        self._note("unlink", self._name(path))
        del self._numbers[self._name(path)]
        os.unlink(path)

    def cut_file(self, path: Path, size_bytes: int) -> None:
        """Another program cuts the end of a file and syncs that."""
        number = self._numbers[self._name(path)]
        self._note("truncate", number, size_bytes)
        os.truncate(path, size_bytes)
        self._note("sync begins", number)
        self._note("sync ends", number)

    def move_files(self, moves: dict[Path, Path]) -> None:
        """Another program renames files, each within its folder, and syncs that."""
        pairs = {self._name(source): self._name(target) for source, target in moves.items()}
        self._note("move", [*pairs.items()])
        for source, target in pairs.items():
            os.rename(self.root / source, self.root / target)
            self._numbers[target] = self._numbers.pop(source)
        self._open = {
            fd: (number, pairs.get(name, name)) for fd, (number, name) in self._open.items()
        }

    def has_folder(self, path: Path) -> None:
        """`path` exists, with a durable name, before anything else happens."""
        path.mkdir(exist_ok=True)
        self._note("folder", self._name(path))

    def lose_power(self, state: State) -> None:
        """Go on with what a power loss left; every file must be closed."""
        self.before()
        put(self.root, state)
        self._numbers = {path: next(self._next) for path in state}
        self.trace.append(("power loss", state, dict(self._numbers)))

    def sync_folder(self, path: Path) -> None:
        """Another program syncs a folder."""
        self._note("sync folder", self._name(path), [])

    def files(self) -> State:
        """What is there now, as programs see it."""
        return {name: (self.root / name).read_bytes() for name in self._numbers}

    def world(self) -> World:
        world = World()
        for op in self.trace:
            world.apply(op)
        return world

    def relative(self, path: Path) -> str:
        """`path` as the trace has it."""
        return self._name(path)

    def _name(self, path) -> str:
        return os.path.relpath(path, self.root)

    def _opened(self, fd: int, name: str, is_new: bool) -> int:
        if is_new:
            self._numbers[name] = next(self._next)
            self._note("create", self._numbers[name], name)
        self._open[fd] = (self._numbers[name], name)
        return fd

    def _note(self, *op: Any) -> None:
        self.before()
        self.trace.append(op)

    def _ask(self, operation: str, path: str | Path) -> int | float | None:
        if operation == "open" and self._is_full(path) and not os.path.exists(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        answer = self.refuse(operation, os.path.basename(path))
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    def _is_full(self, path: str | Path) -> bool:
        return (self.root / path).parent in self.full

    def _free_bytes(self, fd: int) -> int | None:
        """How many bytes the file still takes where its disk is full; None: any."""
        number, name = self._open[fd]
        if not self._is_full(name):
            return None
        free_bytes = self._reserved.get(number, 0) - self.size(fd)
        if free_bytes <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return free_bytes


def put(root: Path, state: State) -> None:
    """Make `state` the whole content of `root`."""
    for folder, _, names in os.walk(root):
        for name in names:
            os.unlink(os.path.join(folder, name))
    for path, data in state.items():
        if isinstance(data, LinkTo):
            os.symlink(data, root / path)
            continue
        try:
            fd = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except FileNotFoundError:
            (root / path).parent.mkdir()
            fd = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(fd, data)
        os.close(fd)
