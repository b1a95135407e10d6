"""What tests share: a small model, small runs, faults that happen to them, and a second opinion."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
