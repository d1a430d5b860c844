"""Messages: their properties, identity and header tables, and the checks of a publication."""
