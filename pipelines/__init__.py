"""Files, folders and the shell: what wires operators and solvers to a person's pictures."""
