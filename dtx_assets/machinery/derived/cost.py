"""What embedding will cost and how long it will take, before the first call."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.derived.embedder import is_stand_in
from dtx_assets.machinery.derived.filling import Queued

PRICES = "model_price.csv"
MODEL, PRICE = "model", "usd_per_1000_tokens"
CHARACTERS_A_TOKEN = 4.7


@dataclass(frozen=True)
class Estimate:
    """Of what is on the queue: `tokens` by its characters, `dollars` by the price, `minutes` by the allowed rate."""

    texts: int
    distinct: int
    tokens: int
    dollars: float
    minutes: float | None

    def __str__(self) -> str:
        time = "" if self.minutes is None else f", at least {self.minutes:,.1f} min at that rate"
        cost = f"about {self.tokens:,} tokens, ${self.dollars:,.4f}"
        return f"{self.texts:,} texts, {self.distinct:,} distinct; {cost}{time}"


def price_of(model: str, file: Path) -> float:
    """Dollars for 1,000 tokens; nothing for a stand-in. ConfigurationError where the file does not say it."""
    if is_stand_in(model):
        return 0.0
    try:
        prices = pl.read_csv(file, schema={MODEL: pl.String, PRICE: pl.Float64})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigurationError(
            f"the prices of models cannot be read: {type(error).__name__}",
            where=str(file),
            remedy=f"a CSV file with the columns {MODEL},{PRICE}",
        ) from None
    found = prices.filter(pl.col(MODEL) == model).get_column(PRICE).drop_nulls()
    if not found.len():
        raise ConfigurationError(f"there is no price of {model}", where=str(file), remedy=f"add a line for {model}")
    return float(found[0])


def estimate(queued: Queued, price: float, a_minute: int | None) -> Estimate:
    tokens = round(queued.characters / CHARACTERS_A_TOKEN)
    minutes = queued.distinct / a_minute if a_minute else None
    return Estimate(queued.texts, queued.distinct, tokens, tokens / 1000 * price, minutes)


def require_accepted(expected: Estimate, accepted: float | None) -> None:
    """LoadError where a cutover would cost more than was accepted; what costs nothing needs no word."""
    if expected.dollars > (accepted or 0.0):
        raise LoadError(
            f"embedding would cost about ${expected.dollars:,.4f}, and "
            + ("nobody accepted that" if accepted is None else f"${accepted:,.4f} is accepted"),
            where=str(expected),
            remedy=f"give --accept-cost {expected.dollars * 1.1:.2f}, or accept it in the run's configuration",
        )
