"""The command line: options of the commands, and their help pages."""
