"""How a network is trained: the config, and a file for each of its parts.

`vattn.config` imports the configs, so nothing here imports it when it is loaded.
"""
