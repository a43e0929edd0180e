CREATE TABLE files (
    file_id    uuid PRIMARY KEY,
    backend    text NOT NULL,
    name       text NOT NULL,
    type       text NOT NULL,
    size       bigint NOT NULL,
    sha512     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX files_name ON files (name COLLATE "C") WHERE deleted_at IS NULL;
CREATE INDEX files_deleted ON files (deleted_at) WHERE deleted_at IS NOT NULL;

-- Contents of the backend `postgres`. Not tied to `files`: a file is written before it is named.
CREATE TABLE file_chunks (
    file_id    uuid NOT NULL,
    at         bigint NOT NULL,
    data       bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (file_id, at)
);
-- Slugs and layers are compressed already.
ALTER TABLE file_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
