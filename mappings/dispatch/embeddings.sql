-- The embeddings of phase 5 and the functions that search them. Needs pgvector, and `derived.sql` before it.
-- The HNSW and GIN indexes are made by the run, after the bulk: inserting into a built HNSW index is slow.

CREATE EXTENSION IF NOT EXISTS vector;

DO $tables$
DECLARE
    entity text; embeddings text; owner text;
BEGIN
    FOREACH entity IN ARRAY ARRAY['profile', 'order', 'message', 'project'] LOOP
        embeddings := entity || '_embeddings';
        owner := entity || '_id';
        EXECUTE format($table$
            CREATE TABLE %1$I (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                %2$I uuid NOT NULL REFERENCES %3$I ON DELETE CASCADE,
                content_type embedding_content_type NOT NULL,
                chunk_index integer NOT NULL,
                content_text text NOT NULL,
                content_hash text NOT NULL,
                embedding vector(1024) NOT NULL,
                model_name text NOT NULL,
                model_version text NOT NULL,
                token_count integer,
                metadata jsonb NOT NULL DEFAULT '{}',
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz,
                UNIQUE (%2$I, content_type, chunk_index)
            )
        $table$, embeddings, owner, entity || 's');
        EXECUTE format('CREATE INDEX ON %I (content_hash)', embeddings);

        -- One row an entity, its best chunk. HNSW gives no more than hnsw.ef_search, and several chunks may be of one
        -- entity: candidates are asked for until there are enough, at last without the index.
        EXECUTE format($function$
            CREATE FUNCTION %1$I(query vector(1024), k integer)
            RETURNS TABLE (id uuid, similarity double precision, content_text text)
            LANGUAGE plpgsql STABLE SET hnsw.ef_search = 40 SET hnsw.iterative_scan = strict_order
            SET enable_indexscan = on AS $body$
            DECLARE
                wanted integer := greatest(k, 0) + 20;
                candidates integer;
                ids uuid[]; distances double precision[]; texts text[];
            BEGIN
                LOOP
                    PERFORM set_config('hnsw.ef_search', least(1000, greatest(40, wanted))::text, true);
                    -- Planned anew each time: a kept plan would not heed the settings.
                    EXECUTE $query$
                        WITH near AS MATERIALIZED (
                            SELECT e.%2$I AS owner, e.embedding <=> $1 AS distance, e.content_text AS chunk,
                                e.chunk_index
                            FROM %3$I AS e ORDER BY e.embedding <=> $1 LIMIT $2
                        ), best AS (
                            SELECT DISTINCT ON (owner) * FROM near ORDER BY owner, distance, chunk_index
                        ), first AS (
                            SELECT * FROM best ORDER BY distance, owner LIMIT greatest($3, 0)
                        )
                        SELECT (SELECT count(*) FROM near), array_agg(f.owner ORDER BY f.distance, f.owner),
                            array_agg(f.distance ORDER BY f.distance, f.owner),
                            array_agg(f.chunk ORDER BY f.distance, f.owner)
                        FROM first AS f
                    $query$ INTO candidates, ids, distances, texts USING query, wanted, k;
                    EXIT WHEN coalesce(cardinality(ids), 0) >= k
                        OR (candidates < wanted AND current_setting('enable_indexscan') = 'off');
                    IF candidates < wanted THEN
                        PERFORM set_config('enable_indexscan', 'off', true);
                    END IF;
                    wanted := wanted * 4;
                END LOOP;
                RETURN QUERY SELECT found.id, 1 - found.distance, found.chunk
                    FROM unnest(ids, distances, texts) WITH ORDINALITY AS found (id, distance, chunk, place)
                    ORDER BY found.place;
            END $body$
        $function$, 'match_' || entity || 's', owner, embeddings);

        -- Reciprocal rank fusion of the nearest and of full text; an exact copy of the text is the first of both.
        EXECUTE format($function$
            CREATE FUNCTION %1$I(query_text text, query vector(1024), k integer)
            RETURNS TABLE (id uuid, score double precision, content_text text)
            LANGUAGE sql STABLE AS $body$
                WITH near AS (
                    SELECT found.id AS owner, found.content_text AS chunk,
                        row_number() OVER (ORDER BY found.similarity DESC, found.id) AS place
                    FROM %4$I(query, greatest(4 * k, 100)) AS found
                ), matching AS (
                    SELECT DISTINCT ON (e.%2$I) e.%2$I AS owner, e.content_text AS chunk,
                        e.content_text = query_text AS is_copy,
                        ts_rank(to_tsvector('simple', e.content_text), asked) AS rank
                    FROM %3$I AS e, websearch_to_tsquery('simple', query_text) AS asked
                    WHERE to_tsvector('simple', e.content_text) @@ asked
                        OR e.content_hash = encode(sha256(convert_to(query_text, 'UTF8')), 'hex')
                    ORDER BY e.%2$I, is_copy DESC, rank DESC, e.chunk_index
                ), said AS (
                    SELECT owner, chunk, row_number() OVER (ORDER BY is_copy DESC, rank DESC, owner) AS place
                    FROM matching ORDER BY place LIMIT greatest(4 * k, 100)
                )
                SELECT owner, coalesce(1.0::double precision / (60 + near.place), 0)
                    + coalesce(1.0::double precision / (60 + said.place), 0), coalesce(said.chunk, near.chunk)
                FROM near FULL JOIN said USING (owner)
                ORDER BY 2 DESC, said.place, owner LIMIT greatest(k, 0)
            $body$
        $function$, 'hybrid_match_' || entity || 's', owner, embeddings, 'match_' || entity || 's');
    END LOOP;
END $tables$;
