"""`feed:NAME` in a selection of assets: all assets of one feed, with what they need upstream."""

import re
from typing import TYPE_CHECKING

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.feeds.load import Feed

if TYPE_CHECKING:
    from dtx_assets.machinery.system.system import System

_PART = re.compile(r"\"[^\"]*\"|(?<![\w:])feed:(?:\"([^\"]*)\"|([\w.-]*))")


def expand_feeds(text: str, system: "System") -> str:
    """Dagster's selection syntax with each `feed:NAME` as the assets of that feed.

    ConfigurationError for an unknown feed, one that is disabled, or one that the chosen options leave out.
    """

    def expand(found: re.Match[str]) -> str:
        quoted, bare = found.groups()
        if quoted is None and bare is None:
            return found.group()
        keys = asset_keys(system, feed_named(system, quoted or bare or ""))
        return "(" + " or ".join(f'+key:"{key}"' for key in keys) + ")"

    return _PART.sub(expand, text)


def feed_named(system: "System", name: str) -> Feed:
    """A feed that is in the graph; ConfigurationError says what to do where it is not."""
    feeds = system.feeds
    known = {feed.name: feed for feed in feeds.feeds} if feeds else {}
    if feeds is None or name not in known:
        raise ConfigurationError(
            f"there is no feed {name!r}",
            where="--select",
            remedy=f"one of: {', '.join(known)}" if known else "this migration has none",
        )
    feed = known[name]
    if not feed.enabled:
        raise ConfigurationError(
            f"the feed {name} is disabled",
            where=str(feed.path),
            remedy="write `enabled: true` into its file when it is to be imported",
        )
    if not feeds.are_chosen(system.decisions):
        raise ConfigurationError(
            f"the feed {name} is not in the graph: {feeds.decision} is {system.decisions.chosen[feeds.decision]}",
            where="--select",
            remedy=f"write `{feeds.decision}: {feeds.option}` into a YAML file, and name that file in "
            f"{system.name.upper()}_DECISIONS",
        )
    return feed


def asset_keys(system: "System", feed: Feed) -> list[str]:
    """The assets that are this feed's; those of a legacy table that is landed anyway are not."""
    model = feed.target.model
    keys = [("target", model), ("prepared", model), ("rejected", model)]
    if feed.open:
        keys += [("archive", feed.table.name), ("legacy", feed.table.name)]
    return [f"{system.name}/{layer}/{dagster_name(name)}" for layer, name in keys]
