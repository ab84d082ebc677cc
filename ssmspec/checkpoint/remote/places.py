"""From what a user types to a path: local, or in a store whose client is loaded only then."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from ssmspec.checkpoint.remote.path import Location, RemotePath, is_address, without_secrets
from ssmspec.checkpoint.tensors import problem
from ssmspec.errors import CheckpointError

EXTRAS = {"http": "http", "https": "http", "hf": "hub", "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
OLDEST_AIOHTTP = "3.12"


def location_of(given: "Location | str") -> Location:
    """The path of an address or of a local file.

    Raises:
        CheckpointError: a package that its scheme needs is missing, or the store cannot be asked.
    """
    if not isinstance(given, str):
        return given
    if not is_address(given):
        return Path(given)
    scheme = given.partition("://")[0].lower()
    if scheme in ("file", "local"):
        from urllib.request import url2pathname  # imported here because it loads ssl, a tenth of the time of a small analysis

        return Path(url2pathname(urlsplit(given).path))
    try:
        if scheme == "hf":
            from ssmspec.checkpoint.remote.hub_store import HubStore

            _require_middlewares(given)
            hub = HubStore(given)
            return RemotePath(hub, hub.start)
        if scheme in ("http", "https"):
            from ssmspec.checkpoint.remote.web_store import WebStore

            _require_middlewares(given)
            web = WebStore(given)
            return RemotePath(web, web.start)
        from ssmspec.checkpoint.remote.object_store import ObjectStore

        store = ObjectStore(given)
        return RemotePath(store, store.start)
    except ImportError as error:
        raise missing(without_secrets(given), scheme, error) from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever a client of fsspec raises for an address
        raise problem(
            without_secrets(given),
            f"cannot be read ({without_secrets(str(error))}); expected hf://, https://, s3://, gs:// or a local path",
        ) from error


def _require_middlewares(given: str) -> None:
    import aiohttp

    if not hasattr(aiohttp, "ClientMiddlewareType"):
        raise problem(given, f"needs aiohttp {OLDEST_AIOHTTP} or later: pip install 'aiohttp>={OLDEST_AIOHTTP}'")


def missing(given: str, scheme: str, error: ImportError) -> CheckpointError:
    """The error for a package that is not installed."""
    extra = EXTRAS.get(scheme)
    if extra is None:
        return problem(given, f"fsspec needs another package for {scheme}:// ({error}); install it")
    return problem(given, f"needs a package that is not installed ({error.name or error}): pip install 'ssmspec[{extra}]'")


def hint(given: object) -> str:
    """What a name may mean that is no local path: the repository of a model; "" if nothing."""
    text = str(given)
    if REPOSITORY.fullmatch(text) and not Path(text).parent.exists():
        return f"; did you mean hf://{text}?"
    return ""
