"""Configuration: the schema (typed, in seconds and bytes), reading it from TOML, and checking it as a whole."""
