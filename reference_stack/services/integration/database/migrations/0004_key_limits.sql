ALTER TABLE api_key
    ADD COLUMN requests_per_minute bigint CHECK (requests_per_minute >= 0),
    ADD COLUMN tokens_per_minute bigint CHECK (tokens_per_minute >= 0),
    ADD COLUMN concurrent bigint CHECK (concurrent >= 0),
    ADD COLUMN budget_tokens bigint CHECK (budget_tokens >= 0),
    ADD COLUMN answers text NOT NULL DEFAULT 'off' CHECK (answers IN ('off', 'exact', 'sampled')),
    ADD COLUMN former_digest bytea UNIQUE CHECK (length(former_digest) = 32),
    ADD COLUMN former_until timestamptz,
    ADD COLUMN changed timestamptz NOT NULL DEFAULT now();
CREATE INDEX api_key_by_change ON api_key (changed);

-- Tokens taken from a key's budget: those that were used, and those that workers hold to use.
CREATE TABLE key_spend (
    key_id text PRIMARY KEY CHECK (length(key_id) BETWEEN 1 AND 64),
    tokens bigint NOT NULL CHECK (tokens >= 0)
);

CREATE FUNCTION api_key_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER api_key_stamp BEFORE INSERT OR UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION api_key_stamp();

-- A transaction that tells the same twice tells it once.
CREATE FUNCTION api_key_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('api_key', encode(OLD.digest, 'hex'));
        IF OLD.former_digest IS NOT NULL THEN
            PERFORM pg_notify('api_key', encode(OLD.former_digest, 'hex'));
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('api_key', encode(NEW.digest, 'hex'));
        IF NEW.former_digest IS NOT NULL THEN
            PERFORM pg_notify('api_key', encode(NEW.former_digest, 'hex'));
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER api_key_tell AFTER INSERT OR UPDATE OR DELETE ON api_key FOR EACH ROW EXECUTE FUNCTION api_key_tell();
