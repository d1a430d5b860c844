"""Imported by every Python process of a daemon under test, whose PYTHONPATH begins with this folder; by no other.

Its consumer waits for a second where it would wait ten minutes for a message that is missing.
"""

from supervisor.consumer.settlement import missing

missing.MISSING_S = 1.0
