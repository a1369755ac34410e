"""The ledger of a search: an append-only file of events, and the history that they add up to."""
