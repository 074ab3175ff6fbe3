"""The second reading of dispatch.md 1.2 on a small schema as Django makes it."""

import psycopg
import pytest

from dtx_assets_tests.dispatch.second_reading_keys import diagnosis, partner_of, table_of

TABLES = """
    CREATE TABLE django_content_type (id integer PRIMARY KEY, app_label varchar(100), model varchar(100));
    CREATE TABLE shop_order (id bigint PRIMARY KEY, name text);
    CREATE TABLE shop_thing (code uuid PRIMARY KEY);
    CREATE TABLE auth_permission (id integer PRIMARY KEY,
        content_type_id integer NOT NULL REFERENCES django_content_type DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE shop_note (id integer PRIMARY KEY, object_id text,
        content_type_id integer, owner_id integer REFERENCES shop_order,
        owner_type_id integer REFERENCES django_content_type, owner_pk text);
    CREATE TABLE "shop_Tag" (id integer PRIMARY KEY, "target_type_id" integer REFERENCES django_content_type,
        target_uuid uuid, target_id date);
    INSERT INTO django_content_type VALUES (1, 'shop', 'order'), (2, 'shop', 'thing'), (3, 'shop', 'gone'),
        (4, 'sessions', 'session'), (5, 'contenttypes', 'contenttype');
    INSERT INTO shop_order VALUES (7, NULL);
    INSERT INTO shop_thing VALUES ('123e4567-e89b-12d3-a456-426614174000');
    INSERT INTO auth_permission VALUES (1, 1), (2, 2);
    INSERT INTO shop_note VALUES (1, '7', 1), (2, ' 7', 1), (3, '8', 1), (4, 'x', 3), (5, 'x', 99), (6, NULL, 1),
        (7, '7', NULL), (8, NULL, NULL), (9, '5', 5);
    ALTER TABLE shop_note ADD FOREIGN KEY (content_type_id) REFERENCES django_content_type NOT VALID;
    INSERT INTO "shop_Tag" VALUES (1, 2, '123e4567-e89b-12d3-a456-426614174000'), (2, 2, gen_random_uuid());
"""


def test_a_database_of_django(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    found = diagnosis(database_url)
    notes, owners, tags = sorted(
        found.pop("pairs"), key=lambda pair: (pair["table"].strip('"').lower(), pair["type_column"])
    )
    assert notes == {
        "table": "shop_note",
        "type_column": "content_type_id",
        "id_column": "object_id",
        "id_type": "text",
        "rows": 9,
        "both_null": 1,
        "type_only": 1,
        "id_only": 1,
        "models": {
            "shop.order": {"rows": 3, "table": "shop_order", "orphans": 2},
            "shop.gone": {"rows": 1, "table": None, "orphans": None},
            "contenttypes.contenttype": {"rows": 1, "table": "django_content_type", "orphans": 0},
        },
        "unknown_types": {"99": 1},
    }
    # `owner_id` has a foreign key of its own; a date is no id.
    assert owners["id_column"] == "owner_pk"
    assert (tags["id_column"], tags["models"]["shop.thing"]["orphans"]) == ("target_uuid", 1)
    assert found == {
        "unpaired": [{"table": "auth_permission", "type_column": "content_type_id", "rows": 2}],
        "models_without_table": ["sessions.session", "shop.gone"],
    }


@pytest.mark.parametrize(
    ("column", "names", "partner"),
    [
        ("content_type_id", "object_uuid object_pk", "object_pk"),
        ("content_type_id", "content_id", None),
        ("x_content_type_id", "object_id x_object_id", "x_object_id"),
        ("target_type_id", "target_object_id target_uuid", "target_uuid"),
        ("kind", "kind_id", None),
    ],
)
def test_partners(column, names, partner):
    assert partner_of(column, names.split(), dict.fromkeys(names.split(), "integer")) == partner


def test_tables_of_models():
    assert (table_of("admin.logentry"), table_of("my_app.some_model")) == ("django_admin_log", "my_app_some_model")
