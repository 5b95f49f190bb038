CREATE TABLE usage (
    request_id text PRIMARY KEY CHECK (length(request_id) BETWEEN 1 AND 200),
    client_request_id text NOT NULL,
    key_id text NOT NULL,
    tenant text NOT NULL,
    model text NOT NULL,
    route text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('complete', 'interrupted', 'cancelled', 'failed')),
    status integer NOT NULL CHECK (status BETWEEN 100 AND 599),
    stream boolean NOT NULL,
    prompt_tokens bigint CHECK (prompt_tokens >= 0),
    output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
    exact boolean NOT NULL,
    accepted timestamptz NOT NULL,
    took_s double precision NOT NULL CHECK (took_s >= 0)
);
CREATE INDEX usage_by_time ON usage (accepted);
CREATE INDEX usage_by_key ON usage (key_id, accepted);
