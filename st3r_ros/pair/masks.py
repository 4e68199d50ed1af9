# SPDX-License-Identifier: Apache-2.0
"""Masks in the pair models: pixels that are neither matched nor mapped."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch

from st3r_ros.types import Matches


def shrunk_mask(mask: np.ndarray, margin: int) -> np.ndarray:
    """(H, W) uint8, 255 where everything within `margin` pixels can be used, as OpenCV takes masks."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    return cv2.erode(mask.astype(np.uint8) * 255, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=255)


def filled(gray: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A grey image (h, w) uint8 that continues smoothly where it is masked, so that the edge of the mask is no feature.

    Source: push-pull interpolation (Gortler et al., The Lumigraph, SIGGRAPH 1996).
    """
    weight = mask.astype(np.float32)
    values, weights = [gray * weight], [weight]
    while min(values[-1].shape) > 1 and weights[-1].min() < 1.0:
        values.append(cv2.pyrDown(values[-1]))
        weights.append(cv2.pyrDown(weights[-1]))
    coarse = np.full_like(values[-1], values[-1].sum() / max(weights[-1].sum(), 1e-6))
    for value, weight in zip(values[::-1], weights[::-1], strict=True):
        coarse = cv2.resize(coarse, value.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.minimum(weight, 1.0)
        coarse = value + (1.0 - share) * coarse
    return np.where(mask, gray, np.rint(coarse).clip(0, 255).astype(np.uint8))


def is_usable(mask: np.ndarray | None, pixels: np.ndarray) -> np.ndarray:
    """Whether pixels (N, 2) inside the image can be used, (N,) bool."""
    if mask is None:
        return np.ones(len(pixels), bool)
    column, row = np.rint(pixels).astype(int).T
    h, w = mask.shape
    return mask[np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)]


def usable_matches(matches: Matches, mask0: np.ndarray | None, mask1: np.ndarray | None) -> Matches:
    """The matches whose pixels can be used in both images; of `possible` the share that can in image 1."""
    if mask0 is None and mask1 is None:
        return matches
    kept = torch.from_numpy(is_usable(mask0, matches.pixels0.numpy()) & is_usable(mask1, matches.pixels1.numpy()))
    share = 1.0 if mask1 is None else float(mask1.mean())
    possible = max(1, round(matches.possible * share))
    return replace(matches.chosen(kept), possible=possible)


def claimed(conf: torch.Tensor, mask: np.ndarray | None) -> torch.Tensor:
    """A confidence (h, w) that claims nothing where pixels cannot be used."""
    return conf if mask is None else torch.where(torch.from_numpy(mask).to(conf.device), conf, 0.0)
