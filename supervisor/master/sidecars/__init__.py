"""Children that belong to no pool: the web page and the hooks."""
