"""Rules by which the master ends children that still run: time, memory, hangs, boots."""
