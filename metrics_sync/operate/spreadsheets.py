"""Cells of CSV files that no spreadsheet takes for a formula."""

import json
import unicodedata
from typing import Any

#: What spreadsheets take for a formula at the start of a cell.
FORMULA = ("=", "+", "-", "@")


def to_cell(value: Any) -> Any:
    """Return what a spreadsheet reads as this value, and never as a formula."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str) and _is_formula(value):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet could take a text for a formula, or for the start of another cell.

    Spreadsheets skip what cannot be seen, and read full-width signs as the usual ones.
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not text or text[0] in "\t\r\n":
        return bool(text)
    seen = (letter for letter in text if letter.isprintable() and not letter.isspace())
    return unicodedata.normalize("NFKC", next(seen, "")).startswith(FORMULA)
