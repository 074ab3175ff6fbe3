"""What `deploy/` has for several machines, as far as it can be looked at without any: no cluster, no Docker daemon."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from dtx_assets.machinery.base.settings import SHARED_VARIABLES, VARIABLES

DEPLOY = Path(__file__).parents[1] / "deploy"
KUBERNETES = "1.31"
OF_DAGSTER = {"DAGSTER_HOME", "DAGSTER_LOGS_BUCKET", "DAGSTER_LOGS_PREFIX", "DAGSTER_LOGS_DIRECTORY"}


def manifests() -> dict[tuple[str, str], dict]:
    found = yaml.safe_load_all((DEPLOY / "kubernetes" / "workers.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_the_manifests_are_of_kubernetes():
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_misspelt_key_would_be_found():
    deployment = manifests()["Deployment", "dtx-workers"]
    deployment["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="resource"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_workers_are_told_variables_that_there_are_and_no_secret():
    told = manifests()["ConfigMap", "dtx-migration"]["data"]
    known = {*(f"DTX_{name}" for name in VARIABLES), *SHARED_VARIABLES, *OF_DAGSTER, "AWS_DEFAULT_REGION"}
    assert told.keys() <= known
    assert told["DTX_EXECUTOR"] == "celery"
    assert not [name for name in told if re.search(r"TARGET_URL|LEGACY_URL|BROKER_URL|POSTGRES_URL|KEY", name)]


def test_a_worker_is_nobody_in_particular_and_ends_its_steps_before_it_leaves():
    pod = manifests()["Deployment", "dtx-workers"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["command"][:3] == ["dtx", "worker", "dtx"]
    assert pod["terminationGracePeriodSeconds"] >= 600


def test_workers_and_runs_have_the_history_of_the_instance_for_production():
    own = yaml.safe_load(manifests()["ConfigMap", "dtx-history"]["data"]["dagster.yaml"])
    assert own["storage"] == yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["storage"]


def test_the_values_of_the_chart_name_what_the_manifests_have():
    values = yaml.safe_load((DEPLOY / "kubernetes" / "helm-values.yaml").read_text())
    [location] = values["dagster-user-deployments"]["deployments"]
    [container] = manifests()["Deployment", "dtx-workers"]["spec"]["template"]["spec"]["containers"]
    assert f"{location['image']['repository']}:{location['image']['tag']}" == container["image"]
    assert {("ConfigMap", each["name"]) for each in location["envConfigMaps"]} <= manifests().keys()
    secrets = {each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each}
    assert {each["name"] for each in location["envSecrets"]} == secrets
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    [limit] = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["run_coordinator"]["config"][
        "tag_concurrency_limits"
    ]
    assert queue["tagConcurrencyLimits"] == [limit]
    # Else psycopg 3 would be picked, with which the history cannot be kept.
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"


def test_the_image_has_what_is_locked_and_runs_as_nobody_in_particular():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert any("-c requirements.lock" in line and '".[celery,kubernetes]"' in line for line in lines)
    assert "USER 10001" in lines
    assert lines.index("USER 10001") < lines.index('CMD ["dtx", "worker"]')
    assert all(line.split()[1].startswith("python:3.11-slim") for line in lines if line.startswith("FROM"))
    copied = [
        each for line in lines if line.startswith("COPY ") and "--from" not in line for each in line.split()[1:-1]
    ]
    assert copied
    for name in copied:
        assert (DEPLOY.parent / name).exists(), name
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!").removesuffix("/**") for line in kept if line.startswith("!")} == set(copied)
