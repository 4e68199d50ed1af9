# SPDX-License-Identifier: Apache-2.0
"""`st3r view`: shows a saved map in the browser."""

from __future__ import annotations

import sys
import time

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.settings import Settings
from st3r_ros.config import ViewerConfig
from st3r_ros.maps.load import load_map
from st3r_ros.viewer.saved import show_map
from st3r_ros.viewer.server import address, close_server, exposure, open_browser, open_server


def run_view(folder: str, config: ViewerConfig, settings: Settings, *, browser: bool) -> int:
    """Shows a saved map until Ctrl-C or SIGTERM, the normal end: returns 0.

    Raises:
        St3rError: the map cannot be loaded, or the viewer cannot be opened.
    """
    with Interrupt() as interrupt:
        server = open_server(config)  # before the map is loaded, so that a port in use is reported at once
        try:
            saved = load_map(folder)
            scene = show_map(server, saved.map, config, settings.cloud)
            url = address(config, server)
            print(f"The map {folder} is on {url}. Ctrl-C ends.", flush=True)
            if exposure(config.host):
                print(exposure(config.host), file=sys.stderr)
            if browser:
                open_browser(url)
            while interrupt.signal is None:
                time.sleep(0.1)
                scene.settle()
        finally:
            close_server(server)
    return 0
