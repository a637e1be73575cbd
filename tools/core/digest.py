"""SHA-256 of files."""

from hashlib import file_digest
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()
