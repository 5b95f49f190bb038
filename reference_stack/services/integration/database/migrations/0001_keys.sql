CREATE TABLE api_key (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    name text NOT NULL DEFAULT '',
    tenant text NOT NULL DEFAULT '',
    models text[] NOT NULL,
    revoked boolean NOT NULL DEFAULT false,
    expires timestamptz,
    created timestamptz NOT NULL DEFAULT now()
);
