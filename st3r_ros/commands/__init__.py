# SPDX-License-Identifier: Apache-2.0
"""The work behind the commands of `st3r`; `cli.py` holds their options."""
