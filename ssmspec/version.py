"""The version of the package, as `ssmspec --version` and every JSON document state it."""

__version__ = "0.1.0"
