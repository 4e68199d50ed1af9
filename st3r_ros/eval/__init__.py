# SPDX-License-Identifier: Apache-2.0
"""How good a map is: trajectory errors, depth errors, and a picture to look at."""
