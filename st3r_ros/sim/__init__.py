# SPDX-License-Identifier: Apache-2.0
"""A textured world with a moving camera and exact ground truth."""
