-- The queue of phase 5, its triggers, and what Dify holds. Needs no pgvector: what does is in `embeddings.sql`.
-- Loaded after the tables profiles, orders, messages and projects.

CREATE TYPE embedding_content_type AS ENUM (
    'profile_summary', 'treatment_notes', 'message_content', 'project_description'
);

CREATE TABLE embedding_queue (
    id uuid PRIMARY KEY,
    source_table text NOT NULL CHECK (source_table IN ('profiles', 'orders', 'messages', 'projects')),
    source_id uuid NOT NULL,
    operation text NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
    content_type embedding_content_type NOT NULL,
    content_hash text,
    priority integer NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 5,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'completed', 'dead')),
    error_message text,
    not_before timestamptz,
    leased_until timestamptz,
    process_pgvector boolean NOT NULL DEFAULT true,
    process_dify boolean NOT NULL DEFAULT true,
    pgvector_completed boolean NOT NULL DEFAULT false,
    dify_completed boolean NOT NULL DEFAULT false,
    processed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_table, source_id, content_type)
);
COMMENT ON COLUMN embedding_queue.content_hash IS
    'SHA-256 (hex) of the text in UTF-8; NULL until it is made, after a trigger queued the row.';
COMMENT ON COLUMN embedding_queue.leased_until IS 'Whose process the row is, until when: no two leases end alike.';
CREATE INDEX embedding_queue_open ON embedding_queue (priority, id) WHERE status IN ('pending', 'processing');
CREATE INDEX embedding_queue_texts ON embedding_queue (content_hash) WHERE status IN ('pending', 'processing');

-- PostgreSQL has no SHA-1 without an extension, and a version 5 UUID is made of one.
CREATE FUNCTION uuid5(namespace uuid, name text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    mask CONSTANT bigint := 4294967295;
    message bytea := decode(replace(namespace::text, '-', ''), 'hex') || convert_to(name, 'UTF8');
    bits bigint := length(message)::bigint * 8;
    h bigint[] := ARRAY[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    w bigint[];
    a bigint; b bigint; c bigint; d bigint; e bigint; f bigint; k bigint; turned bigint;
    digest bytea := '';
    at integer;
BEGIN
    message := message || '\x80'::bytea;
    message := message || decode(repeat('00', (120 - length(message) % 64) % 64), 'hex') || int8send(bits);
    FOR block IN 0 .. length(message) / 64 - 1 LOOP
        w := ARRAY[]::bigint[];
        FOR i IN 0 .. 15 LOOP
            at := block * 64 + i * 4;
            w[i] := (get_byte(message, at)::bigint << 24) | (get_byte(message, at + 1) << 16)
                | (get_byte(message, at + 2) << 8) | get_byte(message, at + 3);
        END LOOP;
        FOR i IN 16 .. 79 LOOP
            turned := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
            w[i] := ((turned << 1) | (turned >> 31)) & mask;
        END LOOP;
        a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
        FOR i IN 0 .. 79 LOOP
            IF i < 20 THEN
                f := (b & c) | ((~b & mask) & d); k := 1518500249;
            ELSIF i < 40 THEN
                f := b # c # d; k := 1859775393;
            ELSIF i < 60 THEN
                f := (b & c) | (b & d) | (c & d); k := 2400959708;
            ELSE
                f := b # c # d; k := 3395469782;
            END IF;
            turned := ((((a << 5) | (a >> 27)) & mask) + f + e + k + w[i]) & mask;
            e := d; d := c; c := ((b << 30) | (b >> 2)) & mask; b := a; a := turned;
        END LOOP;
        h := ARRAY[(h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask, (h[4] + d) & mask, (h[5] + e) & mask];
    END LOOP;
    FOR i IN 1 .. 4 LOOP
        digest := digest || substring(int8send(h[i]) FROM 5);
    END LOOP;
    digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 80);
    digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
    RETURN encode(digest, 'hex')::uuid;
END $$;

-- TG_ARGV: the content type and the priority. A load says that it loads; what it writes is queued by the run itself.
CREATE FUNCTION queue_embedding() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    changed uuid := CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END;
    done text := CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END;
BEGIN
    IF coalesce(current_setting('dispatch.loading', true), '') = 'on' THEN
        RETURN NULL;
    END IF;
    INSERT INTO embedding_queue AS queued (id, source_table, source_id, operation, content_type, priority)
    VALUES (
        uuid5(
            'c447fb6d-893e-5c24-a80b-001facee4dd0',
            concat_ws(':', 'embedding_queue', TG_TABLE_NAME, changed, TG_ARGV[0])
        ),
        TG_TABLE_NAME, changed, done, TG_ARGV[0]::embedding_content_type, TG_ARGV[1]::integer
    )
    ON CONFLICT (source_table, source_id, content_type) DO UPDATE SET
        operation = CASE
            WHEN excluded.operation = 'update' AND queued.operation = 'create' AND queued.status <> 'completed'
            THEN 'create' ELSE excluded.operation END,
        content_hash = NULL, attempts = 0, status = 'pending', error_message = NULL, not_before = NULL,
        leased_until = NULL, pgvector_completed = false, dify_completed = false, processed_at = NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER queue_profile_embeddings AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH ROW EXECUTE FUNCTION queue_embedding('profile_summary', '1');
CREATE TRIGGER queue_order_embeddings AFTER INSERT OR UPDATE OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION queue_embedding('treatment_notes', '2');
CREATE TRIGGER queue_message_embeddings AFTER INSERT OR UPDATE OR DELETE ON messages
    FOR EACH ROW EXECUTE FUNCTION queue_embedding('message_content', '3');
CREATE TRIGGER queue_project_embeddings AFTER INSERT OR UPDATE OR DELETE ON projects
    FOR EACH ROW EXECUTE FUNCTION queue_embedding('project_description', '4');
ALTER TABLE profiles DISABLE TRIGGER queue_profile_embeddings;
ALTER TABLE orders DISABLE TRIGGER queue_order_embeddings;
ALTER TABLE messages DISABLE TRIGGER queue_message_embeddings;
ALTER TABLE projects DISABLE TRIGGER queue_project_embeddings;

CREATE TYPE knowledge_base_kind AS ENUM ('hybrid', 'vector', 'full_text');

CREATE TABLE dify_knowledgebases (
    id uuid PRIMARY KEY,
    dify_kb_id text UNIQUE,
    name text NOT NULL UNIQUE CHECK (length(name) <= 40),
    description text,
    kb_type knowledge_base_kind NOT NULL DEFAULT 'hybrid',
    entity_type text NOT NULL UNIQUE,
    embedding_model text,
    rerank_model text,
    retrieval_setting jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    sync_status text NOT NULL DEFAULT 'pending',
    last_sync_at timestamptz,
    document_count integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz
);

CREATE TABLE dify_documents (
    id uuid PRIMARY KEY,
    dify_document_id text UNIQUE,
    dify_kb_id uuid NOT NULL REFERENCES dify_knowledgebases,
    source_table text NOT NULL,
    source_id uuid NOT NULL,
    document_name text NOT NULL,
    document_content text NOT NULL,
    content_hash text NOT NULL,
    document_type text NOT NULL DEFAULT 'text',
    file_size bigint,
    batch text,
    processing_status text NOT NULL DEFAULT 'pending',
    processed_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    error_message text,
    dify_metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    UNIQUE (dify_kb_id, source_table, source_id)
);
