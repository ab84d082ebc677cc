"""Layouts described by the user: mapping files, the transforms they use, and drafts of mapping files."""
