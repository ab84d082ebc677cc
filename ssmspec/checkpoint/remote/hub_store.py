"""Repositories of the Hugging Face Hub: huggingface_hub says what is in one and where its files are, ranges come from there directly.

One request fixes the commit; all files are those of this commit. A token goes to the host of the endpoint only, which is what the
locations that it signs are made for.
"""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import yarl
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from ssmspec.checkpoint.remote import checks
from ssmspec.checkpoint.remote.checks import WebFile
from ssmspec.checkpoint.remote.failures import BUSY, AnswerError, explained, refused
from ssmspec.checkpoint.remote.store import AT_ONCE, Kind
from ssmspec.checkpoint.remote.web_store import WebStore
from ssmspec.checkpoint.tensors import problem

PLACE = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+(?:/pr/\d+)?))?(?:/(?P<path>.*))?", re.IGNORECASE)

Answer = TypeVar("Answer")


class HubStore(WebStore):
    """A repository of a model, at one commit."""

    def __init__(self, address: str) -> None:
        match = PLACE.fullmatch(address)
        if match is None:
            raise problem(address, "expected hf://organization/name, with @revision and /path/of/a/file behind if needed")
        super().__init__(constants.ENDPOINT)
        self.repository, self.root_name = match["repository"], match["repository"].rpartition("/")[2]
        self.start = (match["path"] or "").strip("/")
        self._given = f"hf://{self.repository}" + (f"@{match['revision']}" if match["revision"] else "")
        self._endpoint = yarl.URL(constants.ENDPOINT).origin()
        self._header = str(build_hf_headers().get("authorization") or "")
        try:
            info = self._repeated(lambda: HfApi().model_info(self.repository, revision=match["revision"], timeout=60))
        except Exception as error:
            raise explained(self._given, error) from error
        self.revision = info.sha
        self._by_key: dict[str, WebFile] = {}
        self._names = [each.rfilename for each in info.siblings or ()]

    def _authorization(self, url: str) -> str:
        return self._header if yarl.URL(url).origin() == self._endpoint else ""

    def shown(self, key: str) -> str:
        return f"{self._given}/{key}" if key else self._given

    def url(self, key: str) -> str:
        return hf_hub_url(self.repository, key, revision=self.revision)

    def kind(self, key: str) -> Kind | None:
        if key in self._names:
            return "file"
        return "folder" if not key or any(name.startswith(f"{key}/") for name in self._names) else None

    def names(self, key: str) -> list[str]:
        start = f"{key}/" if key else ""
        return sorted({name[len(start) :].partition("/")[0] for name in self._names if name.startswith(start)})

    def _begin(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(self._located, keys))
        for key, file in zip(keys, found, strict=True):
            self._by_key[key] = file
        super()._begin(keys)

    def _known(self, key: str) -> WebFile:
        return self._by_key[key]

    def _located(self, key: str) -> WebFile:
        file = WebFile(key.rpartition("/")[2], str(yarl.URL(self.url(key))))
        self._resolve(file)
        return file

    def _resolve(self, file: WebFile) -> None:
        found = self._repeated(lambda: get_hf_file_metadata(file.url, token=None, timeout=60, headers=self._headers()))
        file.location = str(yarl.URL(found.location, encoded=True))
        file.size = found.size if found.size is not None and file.size == -1 else file.size
        self.checks.know(file.location, file)

    def _repeated(self, ask: Callable[[], Answer]) -> Answer:
        """The answer of the Hub; if it is busy or out of order, it is asked again. May raise anything."""
        for number in range(checks.TRIES):
            self.traffic.requests += 1
            try:
                return ask()
            except Exception as error:
                response = getattr(error, "response", None)
                status = getattr(response, "status_code", 0)
                if number == checks.TRIES - 1 or (status != BUSY and status < 500):
                    raise hub_error(error) from error
                told = checks.retry_after(str(getattr(response, "headers", {}).get("Retry-After", "")))
                time.sleep(min(checks.LONGEST_WAIT, max(checks.WAIT * 2**number, told)))
        raise AssertionError("unreachable")

    def _headers(self) -> dict[str, str]:
        return {"authorization": self._header} if self._header else {}


def hub_error(error: BaseException) -> BaseException:
    """The error of huggingface_hub in our words, where there are better ones."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if "GatedRepoError" in names:
        return refused(403)
    if "RepositoryNotFoundError" in names:
        return AnswerError("no such repository on the Hub, or a private one: check the name, or set HF_TOKEN ('hf auth login')", status)
    if "RevisionNotFoundError" in names:
        return AnswerError("the repository has no such revision; check what stands behind @", status)
    if "OfflineModeIsEnabled" in names:
        return AnswerError("huggingface_hub is told to stay offline (HF_HUB_OFFLINE); unset it, or name a local file")
    if "HFValidationError" in names:
        return AnswerError("no valid name of a repository; expected hf://organization/name")
    return refused(status) if status in (401, 403, 404, BUSY) or status >= 500 else error
