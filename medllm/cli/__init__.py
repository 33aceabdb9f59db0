"""The command line: one small module a command, each a shell around a plain function."""
