"""Amazon Titan Text Embeddings v2 through Bedrock, one text a call. Its errors become those of `embedder`.

Credentials come from the environment or the role of the machine, and are named nowhere.
"""

import json
from typing import Any

from dtx_assets.machinery.derived.embedder import (
    Answer,
    EmbeddingStopped,
    Refused,
    TooManyTokens,
    TryAgain,
    checked_vector,
)

MODEL = "amazon.titan-embed-text-v2:0"
JSON = "application/json"
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 10.0, 60.0
TOO_MANY_TOKENS = "Too many input tokens"

PASSING = frozenset(
    {
        "ThrottlingException",
        "ServiceUnavailableException",
        "InternalServerException",
        "ModelTimeoutException",
        "ModelNotReadyException",
        "ModelErrorException",
    }
)
REMEDIES = {
    "AccessDeniedException": "let this role invoke the model (bedrock:InvokeModel), and ask for access to it in the"
    " Bedrock console of that region",
    "ResourceNotFoundException": "use a region that has the model, and ask for access to it in its Bedrock console",
}
CREDENTIALS = "give credentials that are valid: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine"

UNKNOWN = "look this code up in the documentation of Bedrock's InvokeModel, mend it, then run again"


class TitanV2:
    """The model, behind a client that tries nothing twice by itself."""

    model_name = MODEL
    model_version = "v2:0"

    def __init__(
        self,
        dimensions: int,
        *,
        region: str,
        endpoint_url: str | None = None,
        concurrency: int = 8,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
    ) -> None:
        import boto3
        from botocore.config import Config

        self.dimensions = dimensions
        self._place = f"Bedrock in {region}"
        self._client: Any = boto3.session.Session().client(
            "bedrock-runtime",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=min(SECONDS_TO_CONNECT, seconds_to_answer),
                read_timeout=seconds_to_answer,
                max_pool_connections=concurrency,
            ),
        )

    def embed(self, text: str) -> Answer:
        body = json.dumps({"inputText": text, "dimensions": self.dimensions, "normalize": True})
        answer = self._answer_to(body)
        vector = checked_vector(answer.get("embedding"), self.dimensions)
        tokens = answer.get("inputTextTokenCount")
        return Answer(vector, tokens if isinstance(tokens, int) else None)

    def _answer_to(self, body: str) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            response = self._client.invoke_model(modelId=MODEL, contentType=JSON, accept=JSON, body=body)
            answer = json.loads(response["body"].read())
        except ClientError as error:
            self._raise_for(error.response)
            raise AssertionError("an error of the service is raised") from None
        # The connection may break or hang while the body is read, too.
        except (HTTPClientError, NoConnection, OSError) as error:
            raise TryAgain(f"{type(error).__name__}: the connection broke, or the answer took too long") from None
        except BotoCoreError as error:
            if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
                raise EmbeddingStopped(
                    f"there are no usable AWS credentials ({type(error).__name__})",
                    where=self._place,
                    remedy=CREDENTIALS,
                ) from None
            raise TryAgain(f"{type(error).__name__}: no answer that can be read") from None
        except ValueError:
            raise TryAgain("the answer is no JSON") from None
        if not isinstance(answer, dict):
            raise TryAgain("the answer is no JSON object")
        return answer

    def _raise_for(self, response: Any) -> None:
        """The error that an answer stands for. Its message may quote the text, so it is not told."""
        code = str(response.get("Error", {}).get("Code", "unknown"))
        message = str(response.get("Error", {}).get("Message", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code == "ValidationException":
            if TOO_MANY_TOKENS.casefold() in message.casefold():
                raise TooManyTokens
            raise Refused(f"{code}: the model refuses the text")
        if code in PASSING or status == 429 or (status >= 500 and code not in REMEDIES):
            raise TryAgain(f"{code}: the service could not answer (HTTP {status})")
        raise EmbeddingStopped(
            f"Bedrock refuses to embed: {code} (HTTP {status})",
            where=f"{MODEL}, {self._place}",
            remedy=REMEDIES.get(code, CREDENTIALS if status in (401, 403) else UNKNOWN),
        )
