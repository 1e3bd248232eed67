"""What the hub's library, the network and the disk raise on a pull → one line and the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import cache
from .errors import JanusError, ModelError, OutputError

PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be others the next time


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed the next time."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    return isinstance(error, httpx.TransportError)


def is_offline(error: Exception) -> bool:
    """Whether the user has forbidden the network."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


@contextmanager
def explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turn whatever is raised on the way to a model into an error for its user."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    try:
        yield
    except JanusError:
        raise
    except HfHubHTTPError as error:
        raise ModelError(f"{repo}: {_refused(error, repo, revision)}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        from huggingface_hub.constants import ENDPOINT

        raise ModelError(
            f"{repo}: {ENDPOINT} cannot be reached ({_named(error)}); check the connection, then "
            "pull again: what has come is kept"
        ) from error
    except OSError as error:
        if is_offline(error):
            raise ModelError(
                f"{repo}: is not on this machine, or not all of it, and HF_HUB_OFFLINE forbids the "
                "network; unset it and pull again"
            ) from error
        raise OutputError(
            f"{error.filename or cache.root()}: cannot be used: {error.strerror or error}; make "
            "room or point HF_HUB_CACHE elsewhere, then pull again: what has come is kept"
        ) from error


def _refused(error: Exception, repo: str, revision: str | None) -> str:
    """What the hub means by an answer that is no success."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, errors.GatedRepoError):
        return f"is gated; accept its terms at {page}, and set HF_TOKEN to your token"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is private: check the name, or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {revision}; leave --revision out, or see {page}/tree/main"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if status in (401, 403):
        return f"access is refused ({status}); see {page}, and set HF_TOKEN to a token that may"
    if status == 404:
        return "the hub does not know it, or one of its files; check the name and HF_ENDPOINT"
    if status in PASSING:
        return f"the hub cannot answer now ({status}); pull again later: what has come is kept"
    return f"the hub answers {status}; check HF_ENDPOINT"


def _named(error: Exception) -> str:
    """What happened, in the words of the system, where it has any."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
