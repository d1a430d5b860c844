"""What operators and systemd ask of the master, and what they are told."""
