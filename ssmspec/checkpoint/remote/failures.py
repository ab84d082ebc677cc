"""What went wrong on the way to a file, in one line: what happened, and what to do."""

import errno
from http import HTTPStatus

from ssmspec.checkpoint.remote.path import without_secrets
from ssmspec.checkpoint.tensors import problem, short
from ssmspec.errors import CheckpointError

DENIED = (401, 403)
GONE = (404, 410)
BUSY = 429
UNSATISFIABLE = 416
CREDENTIALS = (
    "credentials come from the environment (HF_TOKEN or 'hf auth login' for hf://, the variables and profiles of AWS for s3://, of Google"
    " for gs://, .netrc for https://)"
)


class AnswerError(Exception):
    """An answer that is not the bytes that were asked for; `status` is that of HTTP, 0 where it has none."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class NoRangesError(AnswerError):
    """The server sends the whole file where a range is asked for."""


def refused(status: int, reason: str = "") -> AnswerError:
    """The error for a status of HTTP."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = reason or "unknown status"
    if status in DENIED:
        text = f"access refused ({status} {phrase}): accept its terms on its page if it is gated; {CREDENTIALS}"
    elif status in GONE:
        text = f"no such file there ({status} {phrase}); check the address"
    elif status == UNSATISFIABLE:
        text = "the file is shorter than it was, or empty (416); start again"
    elif status == BUSY:
        text = "the server answers that there were too many requests (429), four times; wait, log in if you are not, or use --download"
    else:
        text = f"the server answers {status} {phrase}; try again later"
    return AnswerError(text, status)


def explained(shown: str, error: BaseException) -> CheckpointError:
    """The error about an address, in one line."""
    if isinstance(error, CheckpointError):
        return error
    return problem(shown, _words(error))


def _words(error: BaseException) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = short(" ".join(without_secrets(str(error)).split()), 300)
    if isinstance(error, AnswerError):
        return str(error)
    if "HttpError" in names and isinstance(status := getattr(error, "code", None), int):  # of gcsfs
        return str(refused(status))
    if text.startswith("Forbidden"):  # likewise
        return str(refused(403))
    if names & {"ClientConnectorCertificateError", "ClientSSLError", "ClientConnectorSSLError", "SSLError"}:
        return f"no secure connection (TLS): {text}; check the address, the clock and the certificates of this machine"
    if isinstance(error, TimeoutError) or names & {"FSTimeoutError", "ServerTimeoutError", "TimeoutException", "ReadTimeoutError"}:
        return "the server is too slow: nothing came for a minute; try again later"
    if names & {"TooManyRedirects", "InvalidUrlRedirectClientError", "NonHttpUrlRedirectClientError"}:
        return f"the server redirects in circles or to no web address ({short(text, 80)}); check the address"
    if names & {"ClientConnectorError", "ConnectError", "EndpointConnectionError", "ClientConnectorDNSError"}:
        return f"cannot be reached: {text}; check the address and the network"
    if isinstance(error, FileNotFoundError):
        return "no such file there; check the address"
    if isinstance(error, PermissionError) or names & {"NoCredentialsError"}:
        return f"access refused ({text}): {CREDENTIALS}"
    if "ClientResponseError" in names:
        return f"the answer is no HTTP ({short(text, 120)}); check the address"
    if names & {"ClientConnectionError", "ClientPayloadError", "RemoteProtocolError", "ReadError"} or isinstance(error, ConnectionError):
        return f"the connection broke off in every try ({text or type(error).__name__}); try again"
    if isinstance(error, OSError) and error.errno not in (None, errno.EIO):
        return f"cannot be read: {error.strerror or text}"
    return text if isinstance(error, OSError) and text else f"cannot be read ({type(error).__name__}: {text})"
