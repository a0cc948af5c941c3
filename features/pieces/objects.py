"""Pieces of the cache in an object store. The only module that imports obstore."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from features.pieces.places import PiecesError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CONNECT_S, _GIVE_UP_S, _RETRIES = 5, 60, 6


@dataclass(frozen=True)
class ObjectPieces:
    """Objects of `store`, which `address` names in messages. Every error of the store is a `PiecesError`."""

    store: ObjectStore
    address: str

    @classmethod
    def at(cls, address: str) -> ObjectPieces:
        """The object store at `s3://bucket/prefix` and the like; a request is tried again for up to a minute."""
        try:
            from obstore.store import from_url
        except ModuleNotFoundError as error:
            raise PiecesError(
                f"{address}: obstore is not installed: pip install 'video-diary-logger[objectstore]'"
            ) from error
        with _told(address):
            store = from_url(
                address,
                client_options={"connect_timeout": timedelta(seconds=_CONNECT_S), "allow_http": True},
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_GIVE_UP_S)},
            )
        return cls(store, address)

    def has(self, name: str) -> bool:
        with _told(self.address):
            try:
                self.store.head(name)
            except FileNotFoundError:
                return False
            return True

    def list(self, folder: str) -> AbstractSet[str]:
        with _told(self.address):
            objects = (each for batch in self.store.list(f"{folder}/", chunk_size=1000) for each in batch)
            return {each["path"].rpartition("/")[2] for each in objects}

    def get(self, name: str) -> bytes | None:
        with _told(self.address):
            try:
                return bytes(self.store.get(name).bytes())
            except FileNotFoundError:
                return None

    def create(self, name: str, content: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        with _told(self.address):
            try:
                self.store.put(name, content, mode="create")
            except AlreadyExistsError:
                return False
            except NotSupportedError:  # it cannot tell, and the same bytes over the same bytes do no harm
                self.store.put(name, content)
            return True

    def delete(self, name: str) -> None:
        with _told(self.address), suppress(FileNotFoundError):
            self.store.delete(name)


@contextmanager
def _told(address: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        cause = " ".join(str(error).partition("Debug source")[0].split())[:400]
        raise PiecesError(
            f"{address} cannot be reached or used: {cause}; check extract.cache, the network and the credentials in "
            "the environment, and run again: what was finished is kept"
        ) from error
