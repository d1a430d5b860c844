"""Requests of operators, the status object, notifications to systemd."""
