"""The spec file: its schema, validation, messages, and the YAML that it is written in."""
