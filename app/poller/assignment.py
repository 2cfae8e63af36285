"""Assigns the items of upstream's response to the files of a task, one to one and never by a guess. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from app.dashscope.file_urls import TEMPORARY_SCHEME, file_key, upload_path
from app.dashscope.wire import FileOutcome


def is_of(url: str, named: str | None) -> bool:
    """Whether a result can belong to the only file of a task. `named` is the file URL in the result, if any."""
    return assign([url], [FileOutcome(named, transcription_url="")], complete=True)[0] is not None


def assign(urls: Sequence[str], items: Sequence[FileOutcome], *, complete: bool) -> list[FileOutcome | None]:
    """The item of each URL, in the order of `urls`, or None where no item certainly belongs to the URL.

    An item belongs to the file with exactly its `file_url`, or else with the same `file_key`. An upload may come back
    under another host; its path then identifies the file. The position of an item means nothing.

    `complete`: the URLs are all those of the task. If then one file and one item are left over, they belong together,
    unless the item names another file.
    """
    items = _without_shared_links(items)
    named = _Named(urls, items)
    found = [named.item(number) for number in range(len(urls))]
    _match_uploads(urls, found, named)
    if complete:
        _match_last(urls, found, named, count=len({(item.file_url, *_content(item)) for item in items}))
    return found


def _without_shared_links(items: Sequence[FileOutcome]) -> Sequence[FileOutcome]:
    """The items except those that share a link but name different files: the link belongs to an unknown one of them."""
    names: defaultdict[str | None, set[str | None]] = defaultdict(set)
    for item in items:
        names[item.transcription_url].add(item.file_url and file_key(item.file_url))
    return [item for item in items if item.transcription_url is None or len(names[item.transcription_url]) == 1]


class _Named:
    """The files and items of a task by the keys of their URLs."""

    def __init__(self, urls: Sequence[str], items: Iterable[FileOutcome]) -> None:
        self._urls = urls
        self._keys = [file_key(url) for url in urls]
        self._files: defaultdict[str, list[int]] = defaultdict(list)
        self._items: defaultdict[str, list[FileOutcome]] = defaultdict(list)
        self.left: list[FileOutcome] = []
        """Items that name no file of the task, or no file at all."""
        for number, key in enumerate(self._keys):
            self._files[key].append(number)
        for item in items:
            if item.file_url is not None and (key := file_key(item.file_url)) in self._files:
                self._items[key].append(item)
            else:
                self.left.append(item)

    def is_named(self, number: int) -> bool:
        return bool(self._items[self._keys[number]])

    def item(self, number: int) -> FileOutcome | None:
        key, url = self._keys[number], self._urls[number]
        items = self._items[key]
        exact = [item for item in items if item.file_url == url]
        if len(self._files[key]) == 1:
            return _only(exact or items)
        # Claims put no such files into one task, but earlier releases did: the URL must match exactly.
        echoed = {item.file_url for item in items}
        sent = {self._urls[other] for other in self._files[key]}
        certain = echoed == sent and len(sent) == len(self._files[key])
        return _only(exact) if certain else None


def _match_uploads(urls: Sequence[str], found: list[FileOutcome | None], named: _Named) -> None:
    by_path: defaultdict[str | None, list[FileOutcome]] = defaultdict(list)
    for item in named.left:
        by_path[item.file_url and upload_path(item.file_url)].append(item)
    waiting: defaultdict[str | None, list[int]] = defaultdict(list)
    for number, url in enumerate(urls):
        if _is_upload(url) and not named.is_named(number):
            waiting[upload_path(url)].append(number)
    for path, numbers in waiting.items():
        if len(numbers) == 1 and (only := _only(by_path[path])):
            found[numbers[0]] = only
            named.left = [each for each in named.left if each not in by_path[path]]


def _match_last(urls: Sequence[str], found: list[FileOutcome | None], named: _Named, *, count: int) -> None:
    numbers = [number for number, item in enumerate(found) if item is None]
    if len(numbers) != 1 or count != len(urls) or named.is_named(numbers[0]):
        return
    last = _only(named.left)
    if last and (last.file_url is None or (_is_upload(urls[numbers[0]]) and not _is_upload(last.file_url))):
        found[numbers[0]] = last


def _is_upload(url: str) -> bool:
    return url.startswith(TEMPORARY_SCHEME)


def _only(items: Sequence[FileOutcome]) -> FileOutcome | None:
    """An item if all items agree on the outcome, else None. Unfinished items count only if no item has ended."""
    ended = [item for item in items if item.ended] or items
    return ended[0] if len({_content(item) for item in ended}) == 1 else None


def _content(item: FileOutcome) -> tuple[str | None, str | None, bytes | None]:
    """The link, code and document of an item. Links that differ only in their query, the signature, are the same."""
    link = item.transcription_url
    return (link if link is None or item.file_url is None else link.partition("?")[0]), item.code, item.document
