-- What is done in the background, by whichever worker claims it. A claim ends by itself, so that
-- nothing is lost with a worker; a row goes in the transaction that finishes its work.

CREATE TABLE worker_jobs (
    id bigserial PRIMARY KEY,
    task jsonb NOT NULL,
    run_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    last_error text,
    claimed_by uuid,
    claimed_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX worker_jobs_due ON worker_jobs (run_at, id);
CREATE TRIGGER worker_jobs_notify AFTER INSERT ON worker_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION notify_events();

-- Why a deployment goes back, once that is decided; and the process types whose new jobs have shown
-- that they stay up.
ALTER TABLE deployments ADD COLUMN failure text;
ALTER TABLE deployments ADD COLUMN proven text[] NOT NULL DEFAULT '{}';
