# SPDX-License-Identifier: Apache-2.0
"""The node that shows a running map in a browser."""
