"""Which config to try next: asks a sampler, leaves out duplicates, applies limits and the budget of time."""
