"""The consumer process: owns the broker connection and the ledger, dispatches messages to workers, settles them.

It never runs user code and never forks, so whatever workers do, the connection stays.
"""
