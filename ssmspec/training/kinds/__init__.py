"""What several tasks share: published benchmarks, data of the user, classes."""
