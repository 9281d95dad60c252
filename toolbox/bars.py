"""Bars that show how far something is: on a terminal they move; in a file or a pipe they are a line
now and then."""

import sys
from typing import TextIO

from tqdm import tqdm

SELDOM = 30  # seconds between the lines in a file


class Lines:
    """Takes what moves a bar on a terminal as lines of their own."""

    def __init__(self, out: TextIO):
        self.out = out

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            self.out.write(f"{line}\n")

    def flush(self) -> None:
        self.out.flush()


class Counting(tqdm):
    """tqdm's bar, which would write ten times a second into a file too."""

    def __init__(self, *things, **look):
        if not sys.stderr.isatty():
            seldom = {"file": Lines(sys.stderr), "mininterval": SELDOM, "maxinterval": SELDOM}
            look = {**look, **seldom}
        super().__init__(*things, **look)
