# SPDX-License-Identifier: Apache-2.0
"""Facts as a table on the page."""

from __future__ import annotations

import html
from collections.abc import Mapping

_TABLE = "width:100%;font-size:0.85em;padding:0 0.75em 0.5em"
_NOTE = "font-size:0.85em;padding:0 0.75em 0.75em"


def facts_html(facts: Mapping[str, str], note: str = "") -> str:
    """A table of names and values with a sentence below. Their content is untrusted and shown as text."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts.items())
    below = f'<div style="{_NOTE}">{html.escape(note)}</div>' if note else ""
    return f'<table style="{_TABLE}">{rows}</table>{below}'
