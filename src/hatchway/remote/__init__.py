"""Work in pods from a person's machine: logs, commands, shells, copies; beside door/ and cluster/."""
