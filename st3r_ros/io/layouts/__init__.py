# SPDX-License-Identifier: Apache-2.0
"""Folders of images as data sets lay them out; `open.open_folder` finds the sequence in, below or around a folder."""
