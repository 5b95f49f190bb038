-- One share of one key's budget, in one step: `owed` is added to what is taken (negative: given back), then a share is
-- taken. Nothing unless `fewest` are left; at least `wanted` where they are; up to `most` while plenty is left.
CREATE FUNCTION draw_on_budget(
    key text, budget bigint, owed bigint, fewest bigint, wanted bigint, most bigint, shares bigint,
    OUT given bigint, OUT remaining bigint
) LANGUAGE plpgsql AS $$
DECLARE
    spent bigint;
BEGIN
    INSERT INTO key_spend (key_id, tokens) VALUES (key, 0) ON CONFLICT (key_id) DO NOTHING;
    SELECT greatest(tokens + owed, 0) INTO spent FROM key_spend WHERE key_id = key FOR UPDATE;
    remaining := budget - spent;
    given := CASE
        WHEN remaining < fewest THEN 0
        ELSE greatest(least(remaining, greatest(wanted, least(most, remaining / shares))), 0)
    END;
    UPDATE key_spend SET tokens = spent + given WHERE key_id = key;
    remaining := greatest(remaining - given, 0);
END $$;
