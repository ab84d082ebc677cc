"""Checkpoints that are elsewhere: files of the Hub, of object stores and of the web, of which only the needed byte ranges are read."""
