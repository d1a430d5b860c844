"""What several daemons share: the fleet ledger, a schema of functions on PostgreSQL. Used by consumers of pools in a
fleet and by `preforkd fleet`; the master and workers never reach it, so that an outage of PostgreSQL stops neither.

Who owns what is decided by the functions (`sql/*.sql`) in PostgreSQL, not by code here.
"""
