# SPDX-License-Identifier: Apache-2.0
"""A process that forks off others, which save maps until they are killed. (A new Python for each would take seconds.)

Each line of its input is `way folder`; it answers with the number of the new process.
"""

import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path

from map_samples import marked_map, random_map

from st3r_ros.errors import OutputError
from st3r_ros.maps import staging
from st3r_ros.maps.load import read_info
from st3r_ros.maps.save import save_map


def save_for_ever(folder: Path) -> None:
    """Two maps in turn, each time the one that is not there."""
    value = read_info(folder).scale.sigma
    while True:
        value = 2.5 - value
        save_map(folder, marked_map(value), pair_model="opencv")


def save_renaming_twice(folder: Path) -> None:
    """As on a file system that cannot exchange folders."""
    staging.exchange = lambda a, b: False
    save_for_ever(folder)


def save_large_files(folder: Path) -> None:
    """Where files may not be larger than 1000 bytes; leaves the error's message beside the folder."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        save_map(folder, random_map(), pair_model="opencv")
    except OutputError as error:
        folder.with_name("message").write_text(str(error))


def die_at_rename(number: int, folder: Path) -> None:
    """Random kills hardly ever hit the moments between the renames of `save_renaming_twice`."""
    staging.exchange = lambda a, b: False
    rename, renames = Path.rename, []

    def rename_or_die(path: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) == number:
            os._exit(1)
        return rename(path, target)

    Path.rename = rename_or_die  # type: ignore[method-assign]
    save_map(folder, marked_map(2.5 - read_info(folder).scale.sigma), pair_model="opencv")


WAYS = {action.__name__: action for action in (save_for_ever, save_renaming_twice, save_large_files)}
WAYS |= {f"die_at_rename_{number}": partial(die_at_rename, number) for number in range(1, 5)}


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system clears dead ones away
    for line in sys.stdin:
        way, folder = line.rstrip("\n").split(" ", 1)
        process = os.fork()
        if process == 0:
            WAYS[way](Path(folder))
            os._exit(0)
        print(process, flush=True)


if __name__ == "__main__":
    main()
