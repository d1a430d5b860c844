"""The ledger: the consumer's durable record of which message is where in its life. One interface, one store."""
