"""`vattn why`: what was decided about one trial, by which comparisons, and what the trial is worth.

`facts.why` builds a `parts.Why` from the events of a ledger; `text.render` and `json.as_json` render it.
"""
