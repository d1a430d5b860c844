"""From a dead child to its exit record: reaping, causes, history, out-of-memory evidence."""
