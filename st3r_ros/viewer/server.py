# SPDX-License-Identifier: Apache-2.0
"""The web server of the viewer: on this machine only unless configured otherwise, and never on another port than requested."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import sys
import webbrowser
from typing import TYPE_CHECKING

from st3r_ros.config import ViewerConfig
from st3r_ros.errors import MissingDependencyError, ViewerError
from st3r_ros.viewer.guard import Guard, guarded, is_loopback

if TYPE_CHECKING:
    import viser


def open_server(config: ViewerConfig) -> viser.ViserServer:
    """A running server with an empty page, z up, that answers only its own page.

    Raises:
        MissingDependencyError: viser is not installed.
        ViewerError: the address is not one of this machine, something else listens there, or a setting is wrong.
    """
    guard = Guard.of(config)
    check_free(config.host, config.port)
    try:
        import viser
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The viewer needs the library viser ({error.name} is not installed); get it with: pip install viser"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()), guarded(guard):  # the caller prints the address
        server = viser.ViserServer(config.host, config.port, label="st3r", verbose=False)
    if config.port not in (0, server.get_port()):  # another process took the port since the check, and viser used the next one
        close_server(server)
        raise _in_use(config.host, config.port)
    # viser can make a page public through a server on the internet, for any client that requests it.
    server.request_share_url = _share_nothing  # type: ignore[method-assign]
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    return server


def close_server(server: viser.ViserServer) -> None:
    """Ends the server; open pages keep their content."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def address(config: ViewerConfig, server: viser.ViserServer) -> str:
    """The address for the browser."""
    host = config.host
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"


def free_port(host: str, wanted: int) -> int:
    """The wanted port where it is free, else 0, which takes any.

    Raises:
        ViewerError: the host is no address of this machine.
    """
    try:
        check_free(host, wanted)
    except ViewerError:
        check_free(host, 0)
        return 0
    return wanted


def exposure(host: str) -> str:
    """A warning when the address is reachable from other machines, otherwise ""."""
    if is_loopback(host):
        return ""
    return f"The viewer listens on {host}: everybody who can reach it sees the map and can use the buttons, without a password."


def open_browser(url: str) -> bool:
    """Open the page in the browser of this desktop; whether there is one.

    Without a desktop nothing is opened: Python would start a browser for terminals, in ours.
    """
    has_desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(has_desktop) and webbrowser.open(url)


def check_free(host: str, port: int) -> None:
    """Checks that a server can listen there.

    Raises:
        ViewerError: the host is no address of this machine, or the port is in use or may not be used.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
            probe.bind(place)
    except socket.gaierror as error:
        raise ViewerError(f"The viewer cannot listen on host '{host}': no such address; 127.0.0.1 is this machine.") from error
    except PermissionError as error:
        raise ViewerError(f"The viewer may not listen on port {port}; take one from 1024 on.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(host, port) from error
        raise ViewerError(
            f"The viewer cannot listen on host '{host}': {error.strerror}; it must be an address of this machine."
        ) from error


def _in_use(host: str, port: int) -> ViewerError:
    return ViewerError(
        f"Port {port} of {host} is in use, perhaps by another viewer; choose another one, or 0 for any that is free."
    )


def _share_nothing(verbose: bool = True) -> None:
    return None
