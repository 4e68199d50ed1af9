# SPDX-License-Identifier: Apache-2.0
"""Transforms: listened to, looked up, checked, and sent."""
