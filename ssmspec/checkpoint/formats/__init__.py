"""One module per container: which tensors it holds and where their bytes are."""
