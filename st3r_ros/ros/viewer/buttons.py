# SPDX-License-Identifier: Apache-2.0
"""The viewer's buttons: each calls a service of the mapping node and shows its answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import viser
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from st3r_ros.srv import SaveMap
from st3r_ros.viewer.facts import facts_html


@dataclass(frozen=True, eq=False)
class _Call:
    label: str
    client: Client
    future: Future
    since: float


class Buttons:
    """Pause, resume, reset and save on the page. One call at a time; its answer, or why there is none, stands below them."""

    def __init__(self, node: Node, server: viser.ViserServer, mapping_node: str) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._call: _Call | None = None
        triggers = {name: node.create_client(Trigger, f"{mapping_node}/{name}") for name in ("pause", "resume", "reset")}
        self.save = node.create_client(SaveMap, f"{mapping_node}/save_map")
        gui = server.gui
        with gui.add_folder("Mapping node", order=10):
            for name in ("pause", "resume"):
                self._add(gui.add_button(name.capitalize()), name.capitalize(), triggers[name])
            reset = gui.add_button("Reset ...", color="red")
            folder = gui.add_text("Folder", "", hint="On the mapping node's machine; empty: where its map came from.")
            button = gui.add_button("Save the map")
            self._answer = gui.add_html("")
        reset.on_click(lambda event: self._confirm_reset(event.client, triggers["reset"]))
        button.on_click(lambda event: self.press("Save", self.save, SaveMap.Request(folder=folder.value.strip())))

    def press(self, label: str, client: Client, request: Any) -> None:
        """Call a service, from any thread."""
        executor = self._node.executor
        if executor is not None:
            executor.create_task(self._start, label, client, request)

    def poll(self) -> None:
        """Shows the waiting time, and gives up when the service has disappeared."""
        with self._lock:
            call = self._call
            if call is None:
                return
            if not call.client.service_is_ready():
                self._call = None
                call.future.cancel()
                self._say(f"{call.label}: the mapping node disappeared before it answered.")
            elif (waited := time.monotonic() - call.since) > 2.0:
                self._say(f"{call.label}: waiting for the answer, {waited:.0f} s.")

    def _add(self, button: Any, label: str, client: Client) -> None:
        button.on_click(lambda event: self.press(label, client, Trigger.Request()))

    def _confirm_reset(self, browser: viser.ClientHandle | None, client: Client) -> None:
        """Asks the user for confirmation."""
        if browser is None:
            return
        with browser.gui.add_modal("Forget the map?") as modal:
            browser.gui.add_html(facts_html({}, "The mapping node clears the whole map and starts a new one."))
            forget, keep = browser.gui.add_button("Forget it", color="red"), browser.gui.add_button("Keep it")
        keep.on_click(lambda event: modal.close())

        @forget.on_click
        def _(event: Any) -> None:
            modal.close()
            self.press("Reset", client, Trigger.Request())

    def _start(self, label: str, client: Client, request: Any) -> None:
        """On the executor."""
        call = None
        with self._lock:
            if self._call is not None:
                self._say(f"{label}: the answer to {self._call.label} is still waited for.")
            elif not client.service_is_ready():
                service = self._node.resolve_service_name(client.srv_name)
                self._say(f"{label}: there is no service {service}. Does the mapping node run, and is it configured?")
            else:
                self._say(f"{label} ...")
                call = self._call = _Call(label, client, client.call_async(request), time.monotonic())
        if call is not None:
            call.future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Future) -> None:
        with self._lock:
            call = self._call
            if call is None or call.future is not future or future.cancelled():
                return
            self._call = None
            error, answer = future.exception(), future.result()
            if error is not None or answer is None:
                self._say(f"{call.label} failed: {error}")
            else:
                self._say(f"{call.label}: {'' if answer.success else 'refused. '}{answer.message}")

    def _say(self, sentence: str) -> None:
        self._answer.content = facts_html({}, sentence)
