"""What several tasks share: published benchmarks, the user's own data, and classification."""
