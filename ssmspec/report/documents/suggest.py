"""Suggestions as a document of schema ssmspec.suggest/1."""

from dataclasses import asdict

from ssmspec.report.documents.document import Document
from ssmspec.tuning.spectra.suggest import Suggestion
from ssmspec.version import __version__


def suggestion_document(suggestion: Suggestion, source: str) -> Document:
    """The document of schema ssmspec.suggest/1."""
    return {
        "schema": "ssmspec.suggest/1",
        "version": __version__,
        "data": source,
        "suggestions": [asdict(item) for item in suggestion.items],
        "assumptions": list(suggestion.assumptions),
        "aims": list(suggestion.aims),
    }
