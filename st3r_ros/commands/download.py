# SPDX-License-Identifier: Apache-2.0
"""`st3r download`: downloads weights from their publisher after the user has accepted the licence."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import typer

from st3r_ros.checkpoints.published import NAMES, PublishedCheckpoint, find_published, license_note, weights_folder
from st3r_ros.checkpoints.sources import fetch_from_hub, is_hub_id
from st3r_ros.commands.byte_progress import byte_progress, megabytes
from st3r_ros.errors import CheckpointError, DownloadError
from st3r_ros.io.checksum import file_sha256
from st3r_ros.io.download import download

HASH_LENGTH = 64


@dataclass(frozen=True)
class DownloadOptions:
    """out: folder, "" for the default. mirror: base url to use instead of the publisher's server or the Hub."""

    out: str = ""
    accept_license: bool = False
    mirror: str = ""


def run_download(name: str, options: DownloadOptions) -> int:
    """Downloads a published checkpoint, a url or a Hub repository; returns the exit code.

    Raises:
        DownloadError: unknown name, server error, wrong content, or the licence is not accepted.
        OutputError: the file cannot be written.
    """
    published = find_published(name)
    is_url = name.startswith(("http://", "https://"))
    if not (is_url or name in NAMES or is_hub_id(name)):
        raise DownloadError(f"'{name}' cannot be downloaded: give one of {', '.join(NAMES)}, a url, or a Hub id (owner/name).")
    print(license_note(name), file=sys.stderr)
    if published is not None and not options.accept_license:
        _ask_acceptance(published)
    if is_url or name in NAMES:
        _fetch_file(name, published, options)
    else:
        _fetch_repository(name, options)
    return 0


def _ask_acceptance(published: PublishedCheckpoint) -> None:
    if not sys.stdin.isatty():
        raise DownloadError(f"'{published.name}' is not downloaded: add --accept-license if you accept the licence above.")
    if not typer.confirm("Do you accept these terms?", err=True):
        raise DownloadError(f"'{published.name}' is not downloaded: its licence was not accepted.")


def _fetch_file(name: str, published: PublishedCheckpoint | None, options: DownloadOptions) -> None:
    url = published.url if published is not None and name in NAMES else name
    file_name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not file_name:
        raise DownloadError(f"'{url}' cannot be downloaded: the url does not name a file.")
    if options.mirror:
        url = f"{options.mirror.rstrip('/')}/{file_name}"
    path = (Path(options.out).expanduser() if options.out else weights_folder()) / file_name
    with byte_progress(file_name) as progress:
        result = download(url, path, progress=progress, say=lambda text: print(text, file=sys.stderr))
    state = "exists already, verified" if result.already_there else "downloaded"
    print(f"{result.path} ({megabytes(result.size)}) {state}")
    print(f"SHA-256 {result.sha256} (also in {result.path.name}.sha256)")
    print(f"Use it with --checkpoint {result.path if options.out or name not in NAMES else name}")


def _fetch_repository(hub_id: str, options: DownloadOptions) -> None:
    out = Path(options.out).expanduser() if options.out else None
    try:
        folder = fetch_from_hub(hub_id, out, options.mirror)
    except CheckpointError as error:
        raise DownloadError(str(error)) from error
    for path in sorted(folder.glob("*.safetensors")):
        with byte_progress(path.name) as progress:
            sha256 = file_sha256(path, progress)
        told = path.resolve().name  # files in the Hub's cache are named by their hash
        if len(told) == HASH_LENGTH and told != sha256:
            raise DownloadError(f"'{path}' is damaged: its SHA-256 is {sha256}, expected {told}; delete it and download again.")
        print(f"{path} ({megabytes(path.stat().st_size)})\nSHA-256 {sha256}")
    print(f"Use it with --checkpoint {hub_id if out is None else out}")
