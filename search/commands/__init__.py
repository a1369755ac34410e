"""The commands of `vattn`, one file each; `search.cli` parses the arguments and calls ``run`` of the command."""
