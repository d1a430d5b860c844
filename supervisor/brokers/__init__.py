"""Brokers: one interface (`base.py`), two implementations (`embedded.py`, `amqp.py`), one conformance suite over both."""
