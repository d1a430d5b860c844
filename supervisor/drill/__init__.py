"""The fault drill: a private daemon under injected faults, and the audit of its messages. Run by `preforkd drill`."""
