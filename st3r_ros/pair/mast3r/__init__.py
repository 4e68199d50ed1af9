# SPDX-License-Identifier: Apache-2.0
"""The pair model that runs MASt3R and DUSt3R checkpoints."""
