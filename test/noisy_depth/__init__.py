# SPDX-License-Identifier: Apache-2.0
"""The pair model `noisy_depth`: network-like errors added to ground truth. Used by the tests and by the benchmarks."""
