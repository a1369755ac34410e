"""A search seen from outside: its state and what it waits for, lists of searches, metrics, messages to a URL."""
