# SPDX-License-Identifier: Apache-2.0
"""Mask input: one file for all images, and the topic `mask`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from st3r_ros.errors import FrameError
from st3r_ros.io.image_file import read_picture
from st3r_ros.io.masks import fitted, mask_of
from st3r_ros.ros.conversions import stamp_to_ns
from st3r_ros.ros.input.image_input import picture_from_message
from st3r_ros.ros.qos import OVERRIDABLE, SubscriptionEventCallbacks, images, latched

KEPT = 30
_SAY_AGAIN_S = 30.0


def read_mask(file: str) -> np.ndarray | None:
    """The mask (H, W) bool of a file, None without one.

    Raises:
        FrameError: it cannot be read.
    """
    return mask_of(read_picture(Path(file).expanduser())) if file else None


class MaskInput:
    """The masks of images: that of the file, and on the topic `mask` the one with the image's stamp, or else the newest one.

    No image waits for a mask. Messages arrive on the executor, `of` is called on the worker.
    """

    def __init__(self, node: Node, static: np.ndarray | None = None) -> None:
        self._node, self._static = node, static
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Image] = OrderedDict()
        self._newest: Image | None = None
        self.topic = node.resolve_topic_name("mask")
        # Two, since one that hears latched masks does not hear those of a publisher that keeps none.
        self._subscriptions = [
            node.create_subscription(
                Image,
                self.topic,
                self._on_mask,
                profile,
                qos_overriding_options=overriding,
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
            for profile, overriding in ((images("best_effort"), OVERRIDABLE), (latched(), None))
        ]

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def of(self, stamp_ns: int, width: int, height: int) -> np.ndarray | None:
        """The mask (height, width) bool of the image with a stamp; None where it is used whole. One that leaves nothing is said.

        Raises:
            FrameError: a mask cannot be decoded, or has not the shape of the image.
        """
        with self._lock:
            message = self._recent.get(stamp_ns, self._newest)
        masks = {} if self._static is None else {"in mask_file": fitted(self._static, width, height)}
        if message is not None:
            try:
                masks[f"on {self.topic}"] = fitted(mask_of(picture_from_message(message)), width, height)
            except FrameError as error:
                raise FrameError(f"The mask on {self.topic} cannot be used: {error}") from error
        if not masks:
            return None
        mask: np.ndarray = np.logical_and.reduce(list(masks.values()))
        if not mask.any():
            where = next((where for where, own in masks.items() if not own.any()), ", together with that ".join(masks))
            self._node.get_logger().warning(
                f"The mask {where} is dark everywhere: nothing of the image is used.", throttle_duration_sec=_SAY_AGAIN_S
            )
        return mask

    def _on_mask(self, message: Image) -> None:
        with self._lock:
            self._newest = message
            try:
                self._recent[stamp_to_ns(message.header.stamp)] = message
            except FrameError:
                return  # a mask without a time still applies
            while len(self._recent) > KEPT:
                self._recent.popitem(last=False)
