"""Plays one scene: `python -m lifecycle MODULE.NAME`."""

from __future__ import annotations

import sys

from lifecycle import SCENES, endings, forks, objects, planted, shortages, signals, waits

MODULES = (endings, forks, objects, planted, shortages, signals, waits)

if __name__ == "__main__":
    SCENES[sys.argv[1]].act()
