# SPDX-License-Identifier: Apache-2.0
"""The MASt3R / DUSt3R network in torch: configuration, modules, checkpoints, preprocessing. Independent of the mapping."""
