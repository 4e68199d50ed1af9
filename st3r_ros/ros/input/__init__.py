# SPDX-License-Identifier: Apache-2.0
"""What the nodes hear: images, calibrations, masks, and the checks of both."""
