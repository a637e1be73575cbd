"""What happens to bytes on a disk: each function takes a journal and gives back a worse one."""


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
    """Bytes that nobody wrote, in between."""
    return data[:at] + junk + data[at:]


def append_junk(data: bytes, junk: bytes) -> bytes:
    """Bytes that nobody wrote, at the end."""
    return data + junk


def delete(data: bytes, at: int, n_bytes: int) -> bytes:
    """A stretch is gone, and what followed stands in its place."""
    return data[:at] + data[at + n_bytes :]


def repeat_block(data: bytes, at: int, n_bytes: int, to: int) -> bytes:
    """A stretch stands in a second place too."""
    return insert(data, to, data[at : at + n_bytes])
