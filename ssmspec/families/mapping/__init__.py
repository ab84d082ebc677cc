"""Layouts that a user describes: mapping files, the transforms they use, and drafts of them."""
