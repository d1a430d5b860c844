"""The programs and handlers that are measured. Each stands alone: the peers' run in an environment without preforkd."""
