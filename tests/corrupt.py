"""Damage as it happens on disks: each function returns a damaged copy of a journal's bytes."""


def cut_tail(data: bytes, n_bytes: int) -> bytes:
    """The last bytes were never written."""
    return data[: max(0, len(data) - n_bytes)]


def flip_bit(data: bytes, at: int, bit: int = 0) -> bytes:
    """One bit is the other way round."""
    return set_byte(data, at, data[at] ^ (1 << bit))


def set_byte(data: bytes, at: int, value: int) -> bytes:
    """One byte is another one."""
    return overwrite(data, at, bytes([value]))


def zero_block(data: bytes, at: int, n_bytes: int) -> bytes:
    """A block whose length was stored before its content, as a power loss leaves it."""
    return overwrite(data, at, bytes(n_bytes))


def overwrite(data: bytes, at: int, junk: bytes) -> bytes:
    """Other bytes in the place of these; the length stays."""
    return (data[:at] + junk + data[at + len(junk) :])[: len(data)]


def insert(data: bytes, at: int, junk: bytes) -> bytes:
    """Foreign bytes in the middle."""
    return data[:at] + junk + data[at:]


def append_junk(data: bytes, junk: bytes) -> bytes:
    """Foreign bytes at the end."""
    return data + junk


def delete(data: bytes, at: int, n_bytes: int) -> bytes:
    """A range of bytes is removed."""
    return data[:at] + data[at + n_bytes :]


def repeat_block(data: bytes, at: int, n_bytes: int, to: int) -> bytes:
    """A range of bytes is repeated in a second place."""
    return insert(data, to, data[at : at + n_bytes])
