"""The page that explains a search: one HTML file with its own drawings, data and style, which needs no network.

`content.content` computes what a page shows from a ledger, `build.page` puts it into HTML, `serve.serve` shows it while
a search runs, `files` writes it and its tables to files. The scripts and the style are in ``static``.
"""
