"""Files of hubs: from the cache of the library, else from the network unless offline.

``HF_HUB_OFFLINE=1`` (or ``TRANSFORMERS_OFFLINE=1``) forbids the network, for the weights
of torchvision too. A file of a pinned revision that is in the cache costs no request.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.packages import require, torch_for
from wsistore.encoders.weightfiles import shard_names
from wsistore.errors import SourceAccessError, SourceError, SourceNotFoundError, WeightsError

_TORCHVISION = "https://download.pytorch.org/models/"


def offline() -> bool:
    """Return whether the environment forbids the network."""
    wanted = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.strip().upper() in {"1", "ON", "YES", "TRUE"} for value in wanted)


def hub_id(entry: EncoderEntry) -> str | None:
    """Return the id of the repository with the weights on the Hugging Face hub, or None."""
    kind, _, name = entry.source.partition(":")
    return name if kind == "hub" else None


def fetch(entry: EncoderEntry) -> Path:
    """Return the file with the weights of an encoder, or the index of several.

    Raises
    ------
    SourceNotFoundError
        If it is not in the cache and may not or can't be fetched.
    SourceAccessError
        If the hub wants a login or consent.
    DependencyError
        If a package is missing.
    """
    kind = entry.source.partition(":")[0]
    if entry.file is None or kind not in {"hub", "torchvision"}:
        raise SourceNotFoundError(
            f"encoder {entry.name} has no weights that can be fetched: {entry.source}",
            hint="Fetch the file by hand and give weights=<path>.",
        )
    if kind == "torchvision":
        return _torchvision_file(entry.file, entry.name)
    try:
        return hub_file(entry, entry.file)
    except SourceNotFoundError as missing:
        if entry.family != "transformers" or entry.file_sha256 is not None:
            raise
        return _shards(entry, missing)


def _shards(entry: EncoderEntry, missing: SourceNotFoundError) -> Path:
    """Return the index of weights that come in several files, which are fetched."""
    index = hub_config(entry, f"{entry.file}.index.json")
    if index is None:
        raise missing
    for name in shard_names(index):
        hub_file(entry, name)
    return index


def hub_config(entry: EncoderEntry, file: str = "config.json") -> Path | None:
    """Return the configuration in the repository of an encoder, or None where there is none."""
    try:
        return hub_file(entry, file)
    except SourceNotFoundError:
        return None


def hub_file(entry: EncoderEntry, file: str) -> Path:
    """Return a file of the repository of an encoder, at the pinned revision; see `fetch`."""
    require("huggingface_hub", f"encoder {entry.name} from the hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {
        "repo_id": hub_id(entry),
        "filename": file,
        "revision": entry.revision,
    }
    if entry.revision is not None or offline():
        try:
            return Path(hf_hub_download(**wanted, local_files_only=True))
        except (LocalEntryNotFoundError, FileNotFoundError) as error:
            if offline():
                raise _offline(entry, file) from error
    return _download(entry, wanted)


def _download(entry: EncoderEntry, wanted: dict[str, Any]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    told = f"{wanted['filename']} of {wanted['repo_id']} for encoder {entry.name}"
    try:
        return Path(hf_hub_download(**wanted))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise SourceAccessError(
            f"the hub refuses {told}", hint=_login_advice(entry, wanted["repo_id"])
        ) from error
    except OfflineModeIsEnabled as error:
        raise _offline(entry, wanted["filename"]) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(told, entry, error) from error
        raise SourceNotFoundError(
            f"the hub has no {told} at revision {wanted['revision'] or 'main'}",
            hint="Fetch the file by hand and give weights=<path>.",
        ) from error
    except (*HfHubHTTPError.__bases__, OSError) as error:  # the first is any HTTPError
        raise _unreachable(told, entry, error) from error


def _login_advice(entry: EncoderEntry, hub: str) -> str:
    gate = "It is gated: accept" if entry.gated else "Should it be gated, accept"
    return (
        f"{gate} its terms at https://huggingface.co/{hub}, then log in with `hf auth login` or "
        "set HF_TOKEN; or give weights=<path of the file>."
    )


def _offline(entry: EncoderEntry, file: str) -> SourceNotFoundError:
    return SourceNotFoundError(
        f"{file} of {hub_id(entry)} for encoder {entry.name} is not in the cache, and the "
        "environment forbids the network (HF_HUB_OFFLINE)",
        hint=f"Fetch it where there is a network (`hf download {hub_id(entry)} {file}"
        + (f" --revision {entry.revision}" if entry.revision else "")
        + "`), copy the cache (HF_HOME), or give weights=<path>.",
    )


def _unreachable(told: str, entry: EncoderEntry, error: Exception) -> SourceError:
    line = str(error).strip().partition("\n")[0][:300]
    return SourceNotFoundError(
        f"could not fetch {told}: {line}",
        hint="Check the network; or fetch it elsewhere and give weights=<path>. "
        + (_login_advice(entry, str(hub_id(entry))) if entry.gated else ""),
    )


def _torchvision_file(file: str, name: str) -> Path:
    """Return a file of torchvision's weights from torch's cache, fetched where it may be."""
    torch = torch_for(f"encoder {name}")
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if path.is_file():
        return path
    url = _TORCHVISION + file
    if offline():
        raise SourceNotFoundError(
            f"{file} for encoder {name} is not in {path.parent}, and the environment forbids "
            "the network (HF_HUB_OFFLINE)",
            hint=f"Fetch {url} into that folder, or give weights=<path>.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name ends with the first digits of the hash.
    prefix = file.rpartition("-")[2].partition(".")[0]
    try:
        torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
    except RuntimeError as error:
        raise WeightsError(f"{url} is not what its name says: {error}") from error
    except OSError as error:
        raise SourceNotFoundError(
            f"could not fetch {url} for encoder {name}: {error}",
            hint=f"Fetch it elsewhere and put it into {path.parent}, or give weights=<path>.",
        ) from error
    return path


def hub_folder(entry: EncoderEntry) -> Path:
    """Return the folder with all files of a repository, its code among them; see `fetch`.

    To be called only where that code is trusted.
    """
    require("huggingface_hub", f"encoder {entry.name} from the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hub = str(hub_id(entry))
    told = f"{hub} for encoder {entry.name}"
    try:
        return Path(snapshot_download(hub, revision=entry.revision, local_files_only=offline()))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise SourceAccessError(
            f"the hub refuses {told}", hint=_login_advice(entry, hub)
        ) from error
    except (LocalEntryNotFoundError, *HfHubHTTPError.__bases__, OSError) as error:
        raise _unreachable(told, entry, error) from error
