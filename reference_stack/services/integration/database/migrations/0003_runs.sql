CREATE TABLE run (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
    started timestamptz NOT NULL,
    profile text NOT NULL,
    service text NOT NULL,
    evidence text NOT NULL CHECK (evidence IN ('measured', 'tiny', 'simulated')),
    metrics jsonb NOT NULL
);
CREATE INDEX run_by_time ON run (started DESC, id COLLATE "C" DESC);
CREATE INDEX run_by_service ON run (service, started DESC, id COLLATE "C" DESC);
CREATE TABLE verdict (
    run_id text NOT NULL REFERENCES run ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    outcome text NOT NULL CHECK (outcome IN ('PASS', 'FAIL', 'INCONCLUSIVE', 'INVALID')),
    reasons text[] NOT NULL,
    judged timestamptz NOT NULL,
    PRIMARY KEY (run_id, number)
);
