"""Imported by every Python process of a daemon under test, whose PYTHONPATH begins with this folder; by no other."""

from failpoints_runtime import instrument_imports  # type: ignore[import-not-found]  # it lies beside this file

instrument_imports()
