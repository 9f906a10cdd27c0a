"""Works in pods from the user's machine: logs, commands, shells, copies."""
