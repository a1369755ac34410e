"""The spec file: its schema, its validation, the messages for users, and the YAML that it is written in."""
