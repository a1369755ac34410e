"""One file for each command of `vattn`; `search.cli` reads the command line and calls them."""
