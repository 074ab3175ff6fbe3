"""Generic keys of databases that Django itself made, and of one that is Django's by its names and constraints alone."""

import json
import subprocess
import sys
from pathlib import Path

import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.sources.generic_keys import (
    DjangoTable,
    NamedKeys,
    find_generic_keys,
    partner_of,
    read_named_keys,
)
from dtx_assets_tests.dtx.commands import Command

PROJECT = """
import json, sys, uuid
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": json.loads(sys.argv[1])},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin",
                    "django.contrib.sessions", "django.contrib.sites", "django.contrib.messages"],
    SITE_ID=1, SECRET_KEY="x", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
django.setup()
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, models


def meta(**more):
    return type("Meta", (), {"app_label": "clinic", **more})


class Patient(models.Model):
    Meta = meta()

class Device(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    Meta = meta()

class Comment(models.Model):
    content_type = models.ForeignKey(ContentType, models.DO_NOTHING, null=True, db_constraint=True)
    object_id = models.PositiveBigIntegerField(null=True)
    Meta = meta()

class Tag(models.Model):
    target_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    target_id = models.CharField(max_length=64)
    actor_content_type = models.ForeignKey(ContentType, models.CASCADE, null=True, related_name="+")
    actor_object_id = models.UUIDField(null=True)
    Meta = meta(db_table="Weird Tag")

class Kind(models.Model):
    order_type = models.ForeignKey(ContentType, models.CASCADE)
    order = models.ForeignKey(Patient, models.CASCADE)
    Meta = meta()

class Gone(models.Model):
    Meta = meta(managed=False)

call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    for model in (Patient, Device, Comment, Tag, Kind):
        editor.create_model(model)
types = {model: ContentType.objects.get_for_model(model) for model in (Patient, Device, Comment, Tag, User, Gone)}
stale = ContentType.objects.create(app_label="old", model="thing")
user = User.objects.create(username="a")
one, two = Patient.objects.create(), Patient.objects.create()
device = Device.objects.create()
for kind, number in [
    (types[Patient], one.pk), (types[Patient], two.pk), (types[Patient], 999), (types[User], user.pk), (stale, 1),
    (types[Gone], 5), (None, None), (types[Patient], None), (None, 7),
]:
    Comment.objects.create(content_type=kind, object_id=number)
for text in (str(one.pk), f" {two.pk} ", "x", ""):
    Tag.objects.create(target_type=types[Patient], target_id=text, actor_content_type=types[Device],
                       actor_object_id=device.pk)
Tag.objects.create(target_type=types[User], target_id=str(user.pk), actor_content_type=types[Device],
                   actor_object_id=uuid.uuid4())
Kind.objects.create(order_type=types[User], order=one)
LogEntry.objects.create(user=user, content_type=types[Patient], object_id=str(one.pk), object_repr="", action_flag=1)
LogEntry.objects.create(user=user, object_repr="", action_flag=1)
"""


def make_project(directory: Path, settings: dict) -> None:
    """Lets Django make its tables, ours and rows in a database."""
    script = directory / "project.py"
    script.write_text(PROJECT)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(settings)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory, postgres_server):
    url = postgres_server.create_database("django_keys")
    parts = make_url(url)
    settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.database,
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.query.get("host", parts.host),
        "PORT": parts.port or "",
    }
    make_project(tmp_path_factory.mktemp("django"), settings)
    yield url
    postgres_server.drop_database("django_keys")


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    directory = tmp_path_factory.mktemp("django")
    path = directory / "django.sqlite"
    make_project(directory, {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)})
    return f"sqlite:///{path}"


@pytest.fixture(params=["postgresql", "sqlite"])
def django(request):
    return request.getfixturevalue(request.param)


def test_pairs_are_found_and_counted(django):
    found = find_generic_keys(django).as_json()
    pairs = {(pair["table"], pair["type_column"]): pair for pair in found["pairs"]}
    is_postgresql = not django.startswith("sqlite")
    assert set(pairs) == {
        ("clinic_comment", "content_type_id"),
        ("Weird Tag", "target_type_id"),
        ("Weird Tag", "actor_content_type_id"),
        ("django_admin_log", "content_type_id"),
    }
    comment = pairs["clinic_comment", "content_type_id"]
    assert (comment["id_column"], comment["id_type"], comment["rows"]) == ("object_id", "integer", 9)
    assert (comment["both_null"], comment["type_only"], comment["id_only"]) == (1, 1, 1)
    assert comment["models"] == {
        "clinic.patient": {"rows": 3, "table": "clinic_patient", "orphans": 1},
        "auth.user": {"rows": 1, "table": "auth_user", "orphans": 0},
        "old.thing": {"rows": 1, "table": None, "orphans": None},
        "clinic.gone": {"rows": 1, "table": None, "orphans": None},
    }
    assert comment["unknown_types"] == {}
    tag = pairs["Weird Tag", "target_type_id"]
    assert (tag["id_column"], tag["id_type"]) == ("target_id", "text")
    assert tag["models"]["clinic.patient"] == {"rows": 4, "table": "clinic_patient", "orphans": 2}
    actor = pairs["Weird Tag", "actor_content_type_id"]
    assert (actor["id_column"], actor["id_type"]) == ("actor_object_id", "uuid" if is_postgresql else "text")
    assert actor["models"] == {"clinic.device": {"rows": 5, "table": "clinic_device", "orphans": 1}}
    log = pairs["django_admin_log", "content_type_id"]
    assert (log["rows"], log["both_null"], log["id_type"]) == (2, 1, "text")


def test_type_columns_that_are_no_pair_and_models_without_a_table_are_listed(django):
    found = find_generic_keys(django)
    unpaired = {(each.table, each.type_column): each.rows for each in found.unpaired}
    # The order of a kind is a reference of its own.
    assert unpaired["clinic_kind", "order_type_id"] == 1
    assert unpaired["auth_permission", "content_type_id"] > 20
    assert len(unpaired) == 2
    assert found.models_without_table == ("clinic.gone", "clinic.tag", "old.thing")


def test_the_file_names_renames_and_excludes(django, tmp_path):
    path = tmp_path / "generic_keys.yaml"
    path.write_text(
        "pairs:\n"
        "  clinic_kind: { order_type_id: order_id }\n"
        "  django_admin_log: { content_type_id: null }\n"
        "tables: { old.thing: clinic_patient, clinic.tag: Weird Tag }\n"
    )
    found = find_generic_keys(django, read_named_keys(path))
    pairs = {(pair.table, pair.type_column): pair for pair in found.pairs}
    assert pairs["clinic_kind", "order_type_id"].models["auth.user"].rows == 1
    assert ("django_admin_log", "content_type_id") not in pairs
    assert not any(each.table == "django_admin_log" for each in found.unpaired)
    assert pairs["clinic_comment", "content_type_id"].models["old.thing"].orphans == 0
    assert found.models_without_table == ("clinic.gone",)
    for wrong, what in (
        (NamedKeys(pairs={"clinic_kind": {"order_type_id": "nothing"}}), "clinic_kind has no column nothing"),
        (NamedKeys(pairs={"nothing": {"a": "b"}}), "there is no table nothing"),
        (NamedKeys(tables={"old.thing": "nothing"}), "there is no table nothing"),
    ):
        with pytest.raises(ConfigurationError, match=what):
            find_generic_keys(django, wrong)


def test_ids_of_types_that_are_not_there_and_composite_keys(mariadb_url):
    """A database that is Django's by its names and constraints; ids as text, a table with a key of two columns."""
    url = make_url(mariadb_url).set(database="django_keys")
    shown = url.render_as_string(hide_password=False)
    with (
        pymysql.connect(
            host=url.host, port=url.port or 3306, user=url.username, password=url.password or "", autocommit=True
        ) as connection,
        connection.cursor() as cursor,
    ):
        for statement in (
            "CREATE DATABASE django_keys",
            "USE django_keys",
            "CREATE TABLE django_content_type (id int PRIMARY KEY, app_label varchar(100), model varchar(100))",
            "INSERT INTO django_content_type VALUES (71, 'shop', 'order'), (9, 'shop', 'line')",
            "CREATE TABLE shop_order (id bigint PRIMARY KEY)",
            "INSERT INTO shop_order VALUES (9), (71)",
            "CREATE TABLE shop_line (a int, b int, PRIMARY KEY (a, b))",
            "CREATE TABLE note (id int PRIMARY KEY AUTO_INCREMENT, content_type_id int, object_pk varchar(40),"
            " FOREIGN KEY (content_type_id) REFERENCES django_content_type (id))",
            "SET foreign_key_checks = 0",
            "INSERT INTO note (content_type_id, object_pk) VALUES"
            " (71, '9'), (71, ' 71 '), (71, '8'), (9, '1'), (5, '1')",
        ):
            cursor.execute(statement)
        try:
            [pair] = find_generic_keys(shown).pairs
        finally:
            cursor.execute("DROP DATABASE django_keys")
    assert (pair.table, pair.id_column, pair.rows) == ("note", "object_pk", 5)
    told = {model: (each.rows, each.table, each.orphans) for model, each in pair.models.items()}
    assert told == {"shop.order": (3, "shop_order", 1), "shop.line": (1, "shop_line", None)}
    assert pair.unknown_types == {"5": 1}


def test_the_command_shows_them_without_a_mapping(sqlite, tmp_path):
    command = Command(tmp_path, {})
    told = command("diagnose", "dispatch", "--generic-keys", sqlite, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == json.loads(json.dumps(find_generic_keys(sqlite).as_json()))
    shown = command("diagnose", "--generic-keys", sqlite).stdout
    assert "clinic_comment: content_type_id, object_id (integer), 9 rows" in shown
    assert "4 generic keys found." in shown
    refused = command("diagnose", "dtx", sqlite)
    assert refused.returncode == 2
    assert "a URL says nothing here" in refused.stderr


def test_the_partner_is_the_first_of_its_names_that_is_no_reference_and_no_key():
    def partner(type_column, columns, referring=(), key=()):
        table = DjangoTable("t", {type_column: "integer", **columns}, tuple(key), (type_column,), frozenset(referring))
        return partner_of(table, type_column)

    three = {"object_uuid": "uuid", "object_pk": "text", "object_id": "integer"}
    assert partner("content_type_id", three) == "object_id"
    assert partner("content_type_id", three, referring=["object_id"]) == "object_pk"
    assert partner("content_type_id", three, key=["object_id"]) == "object_pk"
    assert partner("content_type_id", {"object_id": None, "object_uuid": "uuid"}) == "object_uuid"
    assert partner("a_content_type_id", {"object_id": "integer", "a_object_pk": "text"}) == "a_object_pk"
    assert partner("target_type_id", {"target_uuid": "uuid", "object_id": "integer"}) == "target_uuid"
    assert partner("content_type_id", {"content_id": "integer"}) == "content_id"
    assert partner("kind_id", {"object_id": "integer"}) is None


def test_what_is_no_django_database_is_told(tmp_path):
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    with pytest.raises(SourceError, match="there is no django_content_type"):
        find_generic_keys(f"sqlite:///{empty}")
    with pytest.raises(ConfigurationError, match="catalogue of a database"):
        find_generic_keys(str(tmp_path))
