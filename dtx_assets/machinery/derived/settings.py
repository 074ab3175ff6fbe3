"""What the environment says of the derived layer: which embedder, and how Bedrock and Dify are reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import reader
from dtx_assets.machinery.derived.bedrock import TitanV2
from dtx_assets.machinery.derived.dify import Dify
from dtx_assets.machinery.derived.embedder import Embedder
from dtx_assets.machinery.derived.standin import StandIn

DEFAULT_REGION, DEFAULT_RPM, DEFAULT_CONCURRENCY = "us-east-1", 600, 8
DEFAULT_PROVIDER = "langgenius/bedrock/bedrock"
MOST_RPM, MOST_CONCURRENCY = 1_000_000, 256


@dataclass(frozen=True)
class DerivedSettings:
    """Which embedder is asked, and how much at once."""

    embedder: str
    region: str
    endpoint_url: str | None
    a_minute: int
    concurrency: int
    dify_url: str | None
    dify_key: str | None = field(repr=False)
    embedding_provider: str
    rerank_provider: str

    @classmethod
    def from_environment(
        cls, system: str, *, environ: Mapping[str, str] | None = None, project_dir: Path | None = None
    ) -> "DerivedSettings":
        """ConfigurationError naming the variable that cannot be read."""
        read = reader(system, environ=environ, project_dir=project_dir)
        dify_url, dify_key = read.web_address("DIFY_URL"), read.value("DIFY_KEY")
        if dify_url and not dify_key:
            raise ConfigurationError(
                "Dify has an address, and there is no key for it",
                where=f"{system.upper()}_DIFY_KEY",
                remedy=f"give a key of its knowledge API, or leave {system.upper()}_DIFY_URL out: nothing is sent then",
            )
        return cls(
            embedder=read.one_of("EMBEDDER", ("standin", "bedrock")),
            region=read.value("BEDROCK_REGION") or DEFAULT_REGION,
            endpoint_url=read.web_address("BEDROCK_ENDPOINT_URL"),
            a_minute=read.whole_number("BEDROCK_RPM", 1, MOST_RPM) or DEFAULT_RPM,
            concurrency=read.whole_number("BEDROCK_CONCURRENCY", 1, MOST_CONCURRENCY) or DEFAULT_CONCURRENCY,
            dify_url=dify_url,
            dify_key=dify_key,
            embedding_provider=read.value("DIFY_EMBEDDING_PROVIDER") or DEFAULT_PROVIDER,
            rerank_provider=read.value("DIFY_RERANK_PROVIDER") or DEFAULT_PROVIDER,
        )

    def make_embedder(self, dimensions: int) -> Embedder:
        if self.embedder == "bedrock":
            return TitanV2(dimensions, region=self.region, endpoint_url=self.endpoint_url, concurrency=self.concurrency)
        return StandIn(dimensions)

    def make_dify(self) -> Dify | None:
        """None where nobody names one."""
        if self.dify_url is None or self.dify_key is None:
            return None
        return Dify(
            self.dify_url,
            self.dify_key,
            embedding_provider=self.embedding_provider,
            rerank_provider=self.rerank_provider,
        )

    @property
    def requests_a_minute(self) -> int | None:
        """None for an embedder that nobody bounds."""
        return self.a_minute if self.embedder == "bedrock" else None
