"""Universal physics transformers with inverse losses, trained jointly; run by `upt-inverse`."""
