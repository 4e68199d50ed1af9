# SPDX-License-Identifier: Apache-2.0
"""The nodes, their parameters and worker, and what a mapping or relocalization session does with an image."""
