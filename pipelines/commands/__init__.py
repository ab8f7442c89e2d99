"""The commands of `degrade`, a file for each group. Each imports what it needs when it runs."""
