-- The controller's objects. Rows that may be referred to later are marked deleted, not removed.

CREATE TABLE apps (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (name <> ''),
    meta jsonb NOT NULL DEFAULT '{}',
    strategy text NOT NULL DEFAULT 'all-at-once' CHECK (strategy IN
        ('all-at-once', 'one-by-one', 'sirenia', 'discoverd-meta', 'one-down-one-up', 'in-batches')),
    deploy_timeout integer NOT NULL DEFAULT 120,
    release_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX apps_name ON apps (name) WHERE deleted_at IS NULL;

CREATE TABLE releases (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id uuid NOT NULL REFERENCES apps (id),
    env jsonb NOT NULL DEFAULT '{}',
    meta jsonb NOT NULL DEFAULT '{}',
    processes jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX releases_app ON releases (app_id, created_at DESC);
ALTER TABLE apps ADD CONSTRAINT apps_release FOREIGN KEY (release_id) REFERENCES releases (id);

CREATE TABLE artifacts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    type text NOT NULL CHECK (type IN ('docker', 'file', 'flynn')),
    uri text NOT NULL,
    meta jsonb NOT NULL DEFAULT '{}',
    manifest jsonb,
    hashes jsonb NOT NULL DEFAULT '{}',
    size bigint NOT NULL DEFAULT 0,
    layer_url_template text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT artifacts_manifest CHECK (type <> 'flynn' OR manifest IS NOT NULL)
);
CREATE UNIQUE INDEX artifacts_uri ON artifacts (type, uri) WHERE deleted_at IS NULL;

CREATE TABLE release_artifacts (
    release_id uuid NOT NULL REFERENCES releases (id),
    artifact_id uuid NOT NULL REFERENCES artifacts (id),
    index integer NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (release_id, artifact_id),
    UNIQUE (release_id, index)
);
CREATE INDEX release_artifacts_artifact ON release_artifacts (artifact_id);

CREATE TABLE formations (
    app_id uuid NOT NULL REFERENCES apps (id),
    release_id uuid NOT NULL REFERENCES releases (id),
    processes jsonb,
    tags jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (app_id, release_id)
);
CREATE INDEX formations_updated ON formations (updated_at);

CREATE TABLE scale_requests (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id uuid NOT NULL REFERENCES apps (id),
    release_id uuid NOT NULL REFERENCES releases (id),
    state text NOT NULL CHECK (state IN ('pending', 'cancelled', 'complete')),
    old_processes jsonb,
    new_processes jsonb,
    old_tags jsonb,
    new_tags jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX scale_requests_formation ON scale_requests (app_id, release_id, created_at DESC);

CREATE TABLE jobs (
    uuid uuid PRIMARY KEY,
    cluster_id text,
    host_id text,
    app_id uuid NOT NULL REFERENCES apps (id),
    release_id uuid NOT NULL REFERENCES releases (id),
    type text NOT NULL DEFAULT '',
    state text NOT NULL CHECK (state IN
        ('pending', 'blocked', 'starting', 'up', 'stopping', 'down', 'crashed', 'failed')),
    args jsonb NOT NULL DEFAULT '[]',
    volumes jsonb NOT NULL DEFAULT '[]',
    meta jsonb NOT NULL DEFAULT '{}',
    exit_status integer,
    host_error text,
    run_at timestamptz,
    restarts integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX jobs_app ON jobs (app_id, created_at DESC);
CREATE INDEX jobs_active ON jobs (updated_at DESC)
    WHERE state IN ('pending', 'starting', 'up', 'stopping');

CREATE TABLE deployments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id uuid NOT NULL REFERENCES apps (id),
    old_release_id uuid REFERENCES releases (id),
    new_release_id uuid NOT NULL REFERENCES releases (id),
    strategy text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'running', 'complete', 'failed')),
    processes jsonb,
    tags jsonb,
    deploy_timeout integer NOT NULL,
    deploy_batch_size integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX deployments_unfinished ON deployments (app_id) WHERE finished_at IS NULL;
CREATE INDEX deployments_app ON deployments (app_id, created_at DESC);

CREATE TABLE providers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    url text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX providers_name ON providers (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX providers_url ON providers (url) WHERE deleted_at IS NULL;

CREATE TABLE resources (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    provider_id uuid NOT NULL REFERENCES providers (id),
    external_id text NOT NULL,
    env jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX resources_external ON resources (provider_id, external_id)
    WHERE deleted_at IS NULL;

CREATE TABLE app_resources (
    app_id uuid NOT NULL REFERENCES apps (id),
    resource_id uuid NOT NULL REFERENCES resources (id),
    index bigserial NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, resource_id)
);
CREATE INDEX app_resources_resource ON app_resources (resource_id);

CREATE TABLE volumes (
    id uuid PRIMARY KEY,
    host_id text NOT NULL,
    type text NOT NULL CHECK (type IN ('data', 'squashfs', 'ext2')),
    state text NOT NULL CHECK (state IN ('pending', 'created', 'destroyed')),
    app_id uuid REFERENCES apps (id),
    release_id uuid REFERENCES releases (id),
    job_id uuid,
    job_type text NOT NULL DEFAULT '',
    path text NOT NULL DEFAULT '',
    delete_on_stop boolean NOT NULL DEFAULT false,
    meta jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    decommissioned_at timestamptz
);

CREATE TABLE certificates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    cert text NOT NULL,
    key text NOT NULL,
    cert_sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE routes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    type text NOT NULL CHECK (type IN ('http', 'tcp')),
    parent_ref text NOT NULL DEFAULT '',
    service text NOT NULL CHECK (service <> '' AND length(service) <= 255),
    port integer NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65534),
    leader boolean NOT NULL DEFAULT false,
    domain text NOT NULL DEFAULT '',
    path text NOT NULL DEFAULT '',
    sticky boolean NOT NULL DEFAULT false,
    drain_backends boolean NOT NULL DEFAULT false,
    disable_keep_alives boolean NOT NULL DEFAULT false,
    certificate_id uuid REFERENCES certificates (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CHECK (type = 'tcp' OR (domain <> '' AND length(domain) <= 255 AND port = 0))
);
CREATE UNIQUE INDEX routes_http ON routes (domain, path) WHERE type = 'http' AND deleted_at IS NULL;
CREATE UNIQUE INDEX routes_tcp ON routes (port) WHERE type = 'tcp' AND deleted_at IS NULL;
CREATE INDEX routes_parent ON routes (parent_ref);

-- Events get their ids in the order in which their transactions commit: whoever writes one holds a
-- lock until then (see change.rs). So a reader that has seen an id has seen all before it.
CREATE TABLE events (
    id bigserial PRIMARY KEY,
    app_id uuid,
    object_type text NOT NULL,
    object_id text NOT NULL,
    unique_id text UNIQUE,
    op text,
    data jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_object ON events (object_type, object_id, id);
CREATE INDEX events_app ON events (app_id, id);

CREATE FUNCTION notify_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('events', '');
    RETURN NULL;
END $$;
CREATE TRIGGER events_notify AFTER INSERT ON events
    FOR EACH STATEMENT EXECUTE FUNCTION notify_events();
