"""What is kept of runs for long: archived and restored, asked by SQL, pruned."""
