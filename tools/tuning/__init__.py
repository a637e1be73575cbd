"""Many runs for one answer: `tune` the command, Optuna behind it, the journal as the wire."""
