"""How trials, numbers, states, errors and earlier searches are put into words, the same in every report."""
