"""What pages hand out as files."""

from __future__ import annotations

import csv
from pathlib import Path

from playwright.sync_api import Locator


def file_of(button: Locator) -> tuple[str, str]:
    """The name and the text of the file that a button gives."""
    with button.page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def csv_of(button: Locator) -> list[dict[str, str]]:
    """The rows of such a file, by column."""
    return list(csv.DictReader(file_of(button)[1].splitlines()))
