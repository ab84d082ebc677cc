"""Files that users name: written whole or not at all, and small ones read without running anything in them."""
