"""The fault drill: a private instance under injected faults, and the audit of what it did. Run by `preforkd drill`."""
