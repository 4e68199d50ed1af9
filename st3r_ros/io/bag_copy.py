# SPDX-License-Identifier: Apache-2.0
"""A temporary copy of a storage file that cannot be read where it lies."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from st3r_ros.errors import InputError
from st3r_ros.io.bag_sqlite import copy_with_journals


class BagCopy:
    """In a temporary folder that goes with its last reader: a file decompressed with zstd as far as possible, or a database with
    its journals.

    Raises:
        InputError: there is no space for it, or nothing can be decompressed.
    """

    def __init__(self, original: Path, journals: list[Path]) -> None:
        self.original = original
        folder = Path(tempfile.mkdtemp(prefix="st3r_bag_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            if journals:
                self.path = copy_with_journals(original, journals, folder)
                return
            self.path = folder / original.stem
            _unpack(original, self.path)
        except OSError as error:
            where = f"into {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a folder with more space"
            if journals:
                raise InputError(f"'{original.name}' cannot be copied with its journal {where}.") from error
            by_hand = f"or unpack the file with: zstd -d '{original}'"
            raise InputError(f"'{original.name}' cannot be unpacked {where}, {by_hand}") from error
        if self.path.stat().st_size == 0:
            raise InputError(
                f"'{original.name}' was cut off at its beginning, or is damaged there: nothing of it can be unpacked."
            )


def _unpack(packed: Path, target: Path) -> None:
    import zstandard

    # A truncated end is noticed by the reader of the file.
    with packed.open("rb") as source, target.open("wb") as file, suppress(zstandard.ZstdError):
        shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True), file, 1 << 20)
