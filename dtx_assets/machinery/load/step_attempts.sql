CREATE TABLE IF NOT EXISTS migration.step_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    step text NOT NULL,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE INDEX IF NOT EXISTS step_attempt_of ON migration.step_attempt (run_id, step);
COMMENT ON TABLE migration.step_attempt IS
    'Where workers do the steps of a run: who began which one when. One without an end was killed, or still goes on.';
